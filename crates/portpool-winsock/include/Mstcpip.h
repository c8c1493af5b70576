/* The name in another spelling: file names on Windows have no case. */
#include "mstcpip.h"
