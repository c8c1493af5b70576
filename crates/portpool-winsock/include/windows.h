/* What programs with sockets include of the system; own text, no part of an SDK. */
#ifndef PORTPOOL_WS_WINDOWS_H
#define PORTPOOL_WS_WINDOWS_H

#include "portpool_ws/errors.h"
#include "portpool_ws/types.h"
#include "portpool_ws/waits.h"

/* As on Windows, unless the program says that it wants Winsock 2 later. */
#if !defined(WIN32_LEAN_AND_MEAN) && !defined(_WINSOCKAPI_)
#include "winsock2.h"
#endif

#ifdef PORTPOOL_MSVC_COMPAT
#include "portpool_ws/msvc.h"
#endif

#endif
