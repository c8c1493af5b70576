/* The name in another spelling: file names on Windows have no case. */
#include "ws2spi.h"
