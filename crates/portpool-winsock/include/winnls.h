/* A part of <windows.h>, which is small here. */
#include "windows.h"
