/* Names for text of either kind, of use with PORTPOOL_MSVC_COMPAT; own text, no part of an SDK. */
#ifndef PORTPOOL_WS_TCHAR_H
#define PORTPOOL_WS_TCHAR_H

#include "windows.h"

/* The C library goes by _UNICODE, the rest of Windows by UNICODE; here both mean both. */
#if defined(_UNICODE) && !defined(UNICODE)
#error "portpool: _UNICODE without UNICODE: compile with both"
#endif

typedef TCHAR _TCHAR;
#define _T(text) TEXT(text)
#define _TEXT(text) TEXT(text)

#ifdef UNICODE
#define _tmain wmain
#define _tprintf wprintf
#define _ftprintf fwprintf
#define _stprintf swprintf
#define _stprintf_s swprintf
#define _sntprintf swprintf
#define _putts _putws
#define _fputts fputws
#define _tcslen wcslen
#define _tcscmp wcscmp
#define _tcsicmp _wcsicmp
#define _tstoi _wtoi
#define _ttoi _wtoi
#define _ttol _wtol
#define _ttoi64 _wtoi64
#define _tcstoul wcstoul
#else
#define _tmain main
#define _tprintf printf
#define _ftprintf fprintf
#define _stprintf sprintf
#define _stprintf_s snprintf
#define _sntprintf snprintf
#define _putts puts
#define _fputts fputs
#define _tcslen strlen
#define _tcscmp strcmp
#define _tcsicmp _stricmp
#define _tstoi atoi
#define _ttoi atoi
#define _ttol atol
#define _ttoi64 _atoi64
#define _tcstoul strtoul
#endif

#endif
