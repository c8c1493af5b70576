/* What programs written for another C library expect of theirs: `wmain`, `%ws`, `%I64d`, `_wtoi`.
 * Only with -DPORTPOOL_MSVC_COMPAT.
 *
 * `wchar_t` keeps its 32 bits. In formats `l` means 32 bits, as `long` does on Windows, and `%s` of
 * `wprintf` means a wide string. Wide output is written as UTF-8.
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
#define __forceinline static __inline__
#define __declspec(what)
#ifndef IN
#define IN
#endif
#ifndef OUT
#define OUT
#endif
#ifndef OPTIONAL
#define OPTIONAL
#endif
#ifndef UNREFERENCED_PARAMETER
#define UNREFERENCED_PARAMETER(parameter) ((void)(parameter))
#endif
#define ZeroMemory(destination, length) memset((destination), 0, (length))
#define CopyMemory(destination, source, length) memcpy((destination), (source), (length))
#define FillMemory(destination, length, fill) memset((destination), (fill), (length))
#define ARRAYSIZE(array) (sizeof(array) / sizeof((array)[0]))
#define _countof(array) (sizeof(array) / sizeof((array)[0]))
#define _stricmp strcasecmp
#define _strnicmp strncasecmp
#define _wcsicmp wcscasecmp
#define _snprintf snprintf

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

/* One of each in a program. The compiler here has to make them: only C can take any arguments. */
#define PORTPOOL_MSVC_ONE __attribute__((weak, visibility("hidden"), noinline, unused))

PORTPOOL_MSVC_ONE int portpool_msvc_vfprintf(FILE *stream, const char *format, va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_vfwprintf(FILE *stream, const wchar_t *format,
                                              va_list arguments);
PORTPOOL_MSVC_ONE int portpool_msvc_printf(const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_fprintf(FILE *stream, const char *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_wprintf(const wchar_t *format, ...);
PORTPOOL_MSVC_ONE int portpool_msvc_fwprintf(FILE *stream, const wchar_t *format, ...);

PORTPOOL_MSVC_ONE int portpool_msvc_vfprintf(FILE *stream, const char *format, va_list arguments)
{
    char *translated = portpool_msvc_format(format);
    int count;
    if (translated == NULL)
        return -1;
    count = vfprintf(stream, translated, arguments);
    free(translated);
    return count;
}

/* A stream that has once written wide text writes no other: so it is made narrow first. */
PORTPOOL_MSVC_ONE int portpool_msvc_vfwprintf(FILE *stream, const wchar_t *format,
                                              va_list arguments)
{
    wchar_t *translated = portpool_msvc_wide_format(format);
    wchar_t *wide = NULL;
    char *narrow = NULL;
    size_t size = 256;
    int count = -1;
    while (translated != NULL && count < 0 && size <= 1 << 20) {
        va_list copy;
        free(wide);
        size *= 4;
        wide = (wchar_t *)malloc(size * sizeof(wchar_t));
        if (wide == NULL)
            break;
        va_copy(copy, arguments);
        count = vswprintf(wide, size, translated, copy);
        va_end(copy);
    }
    if (count >= 0)
        narrow = portpool_msvc_narrow(wide);
    if (narrow == NULL || fputs(narrow, stream) < 0)
        count = -1;
    free(narrow);
    free(wide);
    free(translated);
    return count;
}

#define PORTPOOL_MSVC_PASS_ON(stream, format, how)                                                 \
    va_list arguments;                                                                             \
    int count;                                                                                     \
    va_start(arguments, format);                                                                   \
    count = how(stream, format, arguments);                                                        \
    va_end(arguments);                                                                             \
    return count

PORTPOOL_MSVC_ONE int portpool_msvc_printf(const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(stdout, format, portpool_msvc_vfprintf);
}

PORTPOOL_MSVC_ONE int portpool_msvc_fprintf(FILE *stream, const char *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(stream, format, portpool_msvc_vfprintf);
}

PORTPOOL_MSVC_ONE int portpool_msvc_wprintf(const wchar_t *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(stdout, format, portpool_msvc_vfwprintf);
}

PORTPOOL_MSVC_ONE int portpool_msvc_fwprintf(FILE *stream, const wchar_t *format, ...)
{
    PORTPOOL_MSVC_PASS_ON(stream, format, portpool_msvc_vfwprintf);
}

/* From here on these names of the C library are the functions above. */
extern int printf(const char *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_printf);
extern int fprintf(FILE *stream, const char *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_fprintf);
extern int wprintf(const wchar_t *format, ...) PORTPOOL_WS_SYMBOL(portpool_msvc_wprintf);
extern int fwprintf(FILE *stream, const wchar_t *format, ...)
    PORTPOOL_WS_SYMBOL(portpool_msvc_fwprintf);

PORTPOOL_WS_END

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
