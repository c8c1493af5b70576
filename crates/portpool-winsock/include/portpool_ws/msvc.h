/* What programs written for another C library expect of theirs: `wmain`, `%ws`, `%I64d`, `_wtoi`.
 * Only with -DPORTPOOL_MSVC_COMPAT.
 *
 * `wchar_t` keeps its 32 bits, and WCHAR is the same. In formats `l` means 32 bits, as `long` does on
 * Windows, and `%s` of `wprintf` means a wide string. Wide output is written as UTF-8.
 */
#ifndef PORTPOOL_WS_MSVC_H
#define PORTPOOL_WS_MSVC_H

#include "types.h"

#if defined(__USE_FORTIFY_LEVEL) && __USE_FORTIFY_LEVEL > 0
#error "portpool: PORTPOOL_MSVC_COMPAT replaces printf: compile with -U_FORTIFY_SOURCE"
#endif

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wchar.h>
#ifdef __cplusplus
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#endif

/* Pragmas for another linker, and formats of another library: warnings about them say nothing. */
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
#ifdef __clang__
#pragma clang diagnostic ignored "-Wunknown-warning-option"
#pragma clang diagnostic ignored "-Wpragma-pack"
#endif

#define __int8 char
#define __int16 short
#define __int32 int
#define __int64 long long
#define __cdecl
#define __stdcall
#define __fastcall
#define _cdecl
#define __forceinline __inline__ __attribute__((always_inline))
#define FORCEINLINE static __forceinline
#define __declspec(what)
#define _countof(array) (sizeof(array) / sizeof((array)[0]))
#define _stricmp strcasecmp
#define _strnicmp strncasecmp
#define _strdup strdup
#define _wcsicmp wcscasecmp
#define _wcsnicmp wcsncasecmp
#define _wcsdup wcsdup
#define _snprintf snprintf
#define _snwprintf swprintf
#define _putws portpool_msvc_putws
#define printf_s printf
#define fprintf_s fprintf
#define sprintf_s snprintf
#define wprintf_s wprintf
#define fwprintf_s fwprintf
#define swprintf_s swprintf

/* The C++ library has parameters of these names, so annotations of the older kind and the macros are
 * for C only. */
#ifndef __cplusplus
#define __in
#define __in_opt
#define __out
#define __out_opt
#define __inout
#define __inout_opt
#ifndef NOMINMAX
#ifndef max
#define max(a, b) (((a) > (b)) ? (a) : (b))
#endif
#ifndef min
#define min(a, b) (((a) < (b)) ? (a) : (b))
#endif
#endif
#endif

PORTPOOL_WS_BEGIN

int _wtoi(const wchar_t *text) PORTPOOL_WS_SYMBOL(portpool_msvc_wtoi);
LONG _wtol(const wchar_t *text) PORTPOOL_WS_SYMBOL(portpool_msvc_wtoi);
long long _wtoi64(const wchar_t *text) PORTPOOL_WS_SYMBOL(portpool_msvc_wtoi64);
long long _atoi64(const char *text) PORTPOOL_WS_SYMBOL(portpool_msvc_atoi64);

/* The arguments of a program as wide strings, for as long as it runs; NULL without memory. */
wchar_t **portpool_msvc_arguments(int argc, char **argv);
/* A format in the words of the C library here, allocated; NULL without memory. */
char *portpool_msvc_format(const char *format);
wchar_t *portpool_msvc_wide_format(const wchar_t *format);
/* Wide text as UTF-8, allocated; NULL without memory. */
char *portpool_msvc_narrow(const wchar_t *text);

/* The C library's own functions, under names that nothing below takes. */
extern int portpool_libc_vfprintf(FILE *stream, const char *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(vfprintf);
extern int portpool_libc_vsprintf(char *text, const char *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(vsprintf);
extern int portpool_libc_vsnprintf(char *text, size_t size, const char *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(vsnprintf);
extern int portpool_libc_vswprintf(wchar_t *text, size_t size, const wchar_t *format,
                                   va_list arguments) PORTPOOL_WS_SYMBOL(vswprintf);
extern int portpool_libc_fputws(const wchar_t *text, FILE *stream) PORTPOOL_WS_SYMBOL(fputws);
extern int portpool_libc_getpid(void) PORTPOOL_WS_SYMBOL(getpid);

/* One of each in a program. The compiler here has to make them: only C can take any arguments. */
#define PORTPOOL_MSVC_ONE __attribute__((weak, visibility("hidden"), noinline, unused))

PORTPOOL_MSVC_ONE int portpool_msvc_vfprintf(FILE *stream, const char *format, va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vprintf(const char *format, va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vsprintf(char *text, const char *format, va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vsnprintf(char *text, size_t size, const char *format,
                                              va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vfwprintf(FILE *stream, const wchar_t *format,
                                              va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vwprintf(const wchar_t *format, va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vswprintf(wchar_t *text, size_t size, const wchar_t *format,
                                              va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_fputws(const wchar_t *text, FILE *stream);
PORTPOOL_MSVC_ONE int portpool_msvc_putws(const wchar_t *text);
PORTPOOL_MSVC_ONE int portpool_msvc_printf(const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_fprintf(FILE *stream, const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_sprintf(char *text, const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_snprintf(char *text, size_t size, const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_wprintf(const wchar_t *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_fwprintf(FILE *stream, const wchar_t *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_swprintf(wchar_t *text, size_t size, const wchar_t *format,
                                             ...);

#define PORTPOOL_MSVC_TRANSLATED(letter, translator, call)                                         \
    letter *translated = translator(format);                                                       \
    int count;                                                                                     \
    if (translated == NULL)                                                                        \
        return -1;                                                                                 \
    count = call;                                                                                  \
    free(translated);                                                                              \
    return count

PORTPOOL_MSVC_ONE int portpool_msvc_vfprintf(FILE *stream, const char *format, va_list arguments)
{
    PORTPOOL_MSVC_TRANSLATED(char, portpool_msvc_format,
                             portpool_libc_vfprintf(stream, translated, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_vprintf(const char *format, va_list arguments)
{
    return portpool_msvc_vfprintf(stdout, format, arguments);
}

PORTPOOL_MSVC_ONE int portpool_msvc_vsprintf(char *text, const char *format, va_list arguments)
{
    PORTPOOL_MSVC_TRANSLATED(char, portpool_msvc_format,
                             portpool_libc_vsprintf(text, translated, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_vsnprintf(char *text, size_t size, const char *format,
                                              va_list arguments)
{
    PORTPOOL_MSVC_TRANSLATED(char, portpool_msvc_format,
                             portpool_libc_vsnprintf(text, size, translated, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_vswprintf(wchar_t *text, size_t size, const wchar_t *format,
                                              va_list arguments)
{
    PORTPOOL_MSVC_TRANSLATED(wchar_t, portpool_msvc_wide_format,
                             portpool_libc_vswprintf(text, size, translated, arguments));
}

/* A stream that has once written wide text writes no other: so it is made narrow first. */
PORTPOOL_MSVC_ONE int portpool_msvc_fputws(const wchar_t *text, FILE *stream)
{
    char *narrow;
    int count;
    if (fwide(stream, 0) > 0)
        return portpool_libc_fputws(text, stream);
    narrow = portpool_msvc_narrow(text);
    count = narrow == NULL ? -1 : fputs(narrow, stream);
    free(narrow);
    return count;
}

PORTPOOL_MSVC_ONE int portpool_msvc_putws(const wchar_t *text)
{
    int count = portpool_msvc_fputws(text, stdout);
    return count < 0 ? count : portpool_msvc_fputws(L"\n", stdout);
}

PORTPOOL_MSVC_ONE int portpool_msvc_vfwprintf(FILE *stream, const wchar_t *format,
                                              va_list arguments)
{
    wchar_t *wide = NULL;
    size_t size = 256;
    int count = -1;
    while (count < 0 && size <= 1 << 20) {
        va_list copy;
        free(wide);
        size *= 4;
        wide = (wchar_t *)malloc(size * sizeof(wchar_t));
        if (wide == NULL)
            break;
        va_copy(copy, arguments);
        count = portpool_msvc_vswprintf(wide, size, format, copy);
        va_end(copy);
    }
    if (count >= 0 && portpool_msvc_fputws(wide, stream) < 0)
        count = -1;
    free(wide);
    return count;
}

PORTPOOL_MSVC_ONE int portpool_msvc_vwprintf(const wchar_t *format, va_list arguments)
{
    return portpool_msvc_vfwprintf(stdout, format, arguments);
}

#define PORTPOOL_MSVC_PASS_ON(call)                                                                \
    va_list arguments;                                                                             \
    int count;                                                                                     \
    va_start(arguments, format);                                                                   \
    count = call;                                                                                  \
    va_end(arguments);                                                                             \
    return count

PORTPOOL_MSVC_ONE int portpool_msvc_printf(const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vfprintf(stdout, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_fprintf(FILE *stream, const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vfprintf(stream, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_sprintf(char *text, const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vsprintf(text, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_snprintf(char *text, size_t size, const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vsnprintf(text, size, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_wprintf(const wchar_t *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vfwprintf(stdout, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_fwprintf(FILE *stream, const wchar_t *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vfwprintf(stream, format, arguments));
}

PORTPOOL_MSVC_ONE int portpool_msvc_swprintf(wchar_t *text, size_t size, const wchar_t *format,
                                             ...)
{
    PORTPOOL_MSVC_PASS_ON(portpool_msvc_vswprintf(text, size, format, arguments));
}

/* From here on these names of the C library are the functions above. vsnprintf and vswprintf stay as
 * they are: headers of the C++ library call them, with formats of this system. */
extern int printf(const char *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_printf);
extern int fprintf(FILE *stream, const char *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_fprintf);
extern int sprintf(char *text, const char *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_sprintf);
extern int snprintf(char *text, size_t size, const char *format, ...)
    PORTPOOL_WS_SYMBOL(portpool_msvc_snprintf);
extern int vsprintf(char *text, const char *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(portpool_msvc_vsprintf);
extern int wprintf(const wchar_t *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_wprintf);
extern int fwprintf(FILE *stream, const wchar_t *format, ...)
    PORTPOOL_WS_SYMBOL(portpool_msvc_fwprintf);
extern int swprintf(wchar_t *text, size_t size, const wchar_t *format, ...)
    PORTPOOL_WS_SYMBOL(portpool_msvc_swprintf);
extern int vwprintf(const wchar_t *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(portpool_msvc_vwprintf);
extern int vfwprintf(FILE *stream, const wchar_t *format, va_list arguments)
    PORTPOOL_WS_SYMBOL(portpool_msvc_vfwprintf);
extern int fputws(const wchar_t *text, FILE *stream) PORTPOOL_WS_SYMBOL(portpool_msvc_fputws);
/* An inline function of <stdio.h> has called those already. */
#define vprintf portpool_msvc_vprintf
#define vfprintf portpool_msvc_vfprintf
#define _vsnprintf portpool_msvc_vsnprintf
#define vsprintf_s portpool_msvc_vsnprintf
#define _vsnwprintf portpool_msvc_vswprintf
#define vswprintf_s portpool_msvc_vswprintf

static __inline__ void ExitProcess(UINT uExitCode)
{
    exit((int)uExitCode);
}

static __inline__ DWORD GetCurrentProcessId(void)
{
    return (DWORD)portpool_libc_getpid();
}

PORTPOOL_WS_END

#ifdef __cplusplus
namespace std
{
using ::portpool_msvc_vfprintf;
using ::portpool_msvc_vprintf;
} // namespace std
#endif

/* `int wmain(int argc, wchar_t **argv)` becomes a function that a `main` beside it calls. */
typedef int (*portpool_msvc_wmain)(int, wchar_t **, wchar_t **);
#define wmain(...)                                                                                 \
    portpool_msvc_program(__VA_ARGS__);                                                            \
    int main(int portpool_argc, char **portpool_argv)                                              \
    {                                                                                              \
        wchar_t *portpool_none[1] = {NULL};                                                        \
        wchar_t **portpool_wide = portpool_msvc_arguments(portpool_argc, portpool_argv);           \
        void (*portpool_program)(void) = (void (*)(void))portpool_msvc_program;                    \
        if (portpool_wide == NULL)                                                                 \
            return EXIT_FAILURE;                                                                   \
        return ((portpool_msvc_wmain)portpool_program)(portpool_argc, portpool_wide,               \
                                                       portpool_none);                             \
    }                                                                                              \
    int portpool_msvc_program(__VA_ARGS__)

#endif
