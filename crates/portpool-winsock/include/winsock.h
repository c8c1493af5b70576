/* Winsock 1.1 is a part of Winsock 2. */
#include "winsock2.h"
