/* The base types of Windows, with the widths they have there on 64 bits.
 *
 * Own text, no part of an SDK. `long` has 64 bits on Linux and 32 on Windows, so no type of this file
 * is made of it.
 */
#ifndef PORTPOOL_WS_TYPES_H
#define PORTPOOL_WS_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef __LP64__
#error "portpool: the Winsock headers are for 64-bit Linux"
#endif

#ifdef __cplusplus
#define PORTPOOL_WS_BEGIN extern "C" {
#define PORTPOOL_WS_END }
#define PORTPOOL_WS_STATIC_ASSERT(what, text) static_assert(what, text)
#else
#define PORTPOOL_WS_BEGIN
#define PORTPOOL_WS_END
#define PORTPOOL_WS_STATIC_ASSERT(what, text) _Static_assert(what, text)
#endif

#define PORTPOOL_WS_LAYOUT(type, size, align)                                                      \
    PORTPOOL_WS_STATIC_ASSERT(sizeof(type) == (size) && __alignof__(type) == (align),              \
                              "layout of " #type)

/* The symbol a function has in the library, where its name is one of the C library's as well. */
#define PORTPOOL_WS_SYMBOL(name) __asm__(#name)

#define FAR
#define NEAR
#define PASCAL
#define CALLBACK
#define WINAPI
#define APIENTRY
#define WINAPIV
#define WSAAPI
#define WSPAPI
#define CONST const
#define VOID void

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif

typedef int32_t BOOL, *PBOOL, *LPBOOL;
typedef uint8_t BYTE, *PBYTE, *LPBYTE;
typedef uint8_t UCHAR, *PUCHAR;
typedef uint8_t BOOLEAN;
typedef char CHAR, *PCHAR, *LPSTR, *PSTR;
typedef const char *LPCSTR, *PCSTR;
typedef int16_t SHORT, *PSHORT;
typedef uint16_t USHORT, *PUSHORT;
typedef uint16_t WORD, *PWORD, *LPWORD;
/* A unit of wide text: 16 bits, as on Windows. `wchar_t` and L"" have 32 on Linux, and programs written
 * for Windows take them for the same: with PORTPOOL_MSVC_COMPAT they are. Layouts do not change. */
typedef uint16_t portpool_ws_wide;
#ifdef PORTPOOL_MSVC_COMPAT
typedef wchar_t WCHAR, *PWCHAR, *LPWSTR, *PWSTR;
#else
typedef portpool_ws_wide WCHAR, *PWCHAR, *LPWSTR, *PWSTR;
#endif
typedef const WCHAR *LPCWSTR, *PCWSTR;
/* Text of either kind. */
#ifdef UNICODE
typedef WCHAR TCHAR, *PTCHAR, *LPTSTR, *PTSTR;
typedef const WCHAR *LPCTSTR, *PCTSTR;
#ifdef PORTPOOL_MSVC_COMPAT
#define PORTPOOL_WS_TEXT(text) L##text
#else
#define PORTPOOL_WS_TEXT(text) u##text
#endif
#else
typedef char TCHAR, *PTCHAR, *LPTSTR, *PTSTR;
typedef const char *LPCTSTR, *PCTSTR;
#define PORTPOOL_WS_TEXT(text) text
#endif
#define TEXT(text) PORTPOOL_WS_TEXT(text)
#define __TEXT(text) PORTPOOL_WS_TEXT(text)
typedef int32_t INT, *PINT, *LPINT;
typedef uint32_t UINT, *PUINT, *LPUINT;
typedef int32_t INT32;
typedef uint32_t UINT32;
typedef int32_t LONG, *PLONG, *LPLONG;
typedef uint32_t ULONG, *PULONG, *LPULONG;
typedef uint32_t DWORD, *PDWORD, *LPDWORD;
typedef uint32_t ULONG32;
typedef uint32_t DWORD32;
typedef long long LONGLONG;
typedef unsigned long long ULONGLONG;
typedef long long LONG64, *PLONG64;
typedef unsigned long long ULONG64, *PULONG64;
typedef unsigned long long DWORD64, *PDWORD64;
typedef long long INT64;
typedef unsigned long long UINT64;
typedef long long INT_PTR;
typedef unsigned long long UINT_PTR;
typedef long long LONG_PTR;
typedef unsigned long long ULONG_PTR, *PULONG_PTR;
typedef unsigned long long DWORD_PTR, *PDWORD_PTR;
typedef ULONG_PTR SIZE_T;
typedef void *PVOID, *LPVOID;
typedef const void *LPCVOID;
typedef void *HANDLE, **PHANDLE, **LPHANDLE;
typedef HANDLE HMODULE;
typedef HANDLE HINSTANCE;
typedef HANDLE HLOCAL;
typedef HANDLE HWND;
typedef USHORT ADDRESS_FAMILY;

typedef struct _GUID {
    uint32_t Data1;
    uint16_t Data2;
    uint16_t Data3;
    uint8_t Data4[8];
} GUID, *LPGUID;

typedef struct _OVERLAPPED {
    ULONG_PTR Internal;
    ULONG_PTR InternalHigh;
    __extension__ union {
        __extension__ struct {
            DWORD Offset;
            DWORD OffsetHigh;
        };
        PVOID Pointer;
    };
    HANDLE hEvent;
} OVERLAPPED, *LPOVERLAPPED;

typedef struct _SECURITY_ATTRIBUTES {
    DWORD nLength;
    LPVOID lpSecurityDescriptor;
    BOOL bInheritHandle;
} SECURITY_ATTRIBUTES, *PSECURITY_ATTRIBUTES, *LPSECURITY_ATTRIBUTES;

#define STATUS_PENDING ((DWORD)0x00000103)
/* By its address: of a member of a packed structure a compiler may take the load for a call of a library. */
static __inline__ int portpool_ws_has_completed(const volatile void *overlapped) {
    const volatile OVERLAPPED *state = (const volatile OVERLAPPED *)overlapped;
    return (DWORD)__atomic_load_n(&state->Internal, __ATOMIC_ACQUIRE) != STATUS_PENDING;
}
#define HasOverlappedIoCompleted(overlapped) portpool_ws_has_completed(overlapped)

#define INVALID_HANDLE_VALUE ((HANDLE)(LONG_PTR)-1)

#define MAKEWORD(low, high) ((WORD)(((BYTE)((low)&0xff)) | (((WORD)((BYTE)((high)&0xff))) << 8)))
#define LOBYTE(word) ((BYTE)((word)&0xff))
#define HIBYTE(word) ((BYTE)(((word) >> 8) & 0xff))
#define MAKELONG(low, high)                                                                        \
    ((LONG)(((WORD)((low)&0xffff)) | (((DWORD)((WORD)((high)&0xffff))) << 16)))
#define LOWORD(value) ((WORD)((value)&0xffff))
#define HIWORD(value) ((WORD)(((value) >> 16) & 0xffff))

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
#define MAX_PATH 260
#define ARRAYSIZE(array) (sizeof(array) / sizeof((array)[0]))
#define ZeroMemory(destination, length) memset((destination), 0, (length))
#define CopyMemory(destination, source, length) memcpy((destination), (source), (length))
#define MoveMemory(destination, source, length) memmove((destination), (source), (length))
#define FillMemory(destination, length, fill) memset((destination), (fill), (length))
#define SecureZeroMemory(destination, length) explicit_bzero((destination), (length))

/* Annotations that say to tools of another compiler what a parameter is for. */
#ifndef _In_
#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _In_reads_(count)
#define _In_reads_bytes_(count)
#define _In_reads_opt_(count)
#define _In_reads_bytes_opt_(count)
#define _Out_
#define _Out_opt_
#define _Out_writes_(count)
#define _Out_writes_bytes_(count)
#define _Out_writes_opt_(count)
#define _Out_writes_bytes_to_opt_(size, count)
#define _Inout_
#define _Inout_opt_
#define _Inout_updates_(count)
#define _Outptr_
#define _Ret_maybenull_
#define _Must_inspect_result_
#define _Check_return_
#define _Success_(what)
#define _In_range_(low, high)
#define _In_reads_or_z_(count)
#define _Inout_updates_bytes_(count)
#define _Inout_updates_opt_(count)
#define _Out_writes_to_(size, count)
#define _Out_writes_bytes_to_(size, count)
#define _Out_writes_bytes_opt_(count)
#define _Outptr_opt_
#define _Outptr_result_maybenull_
#define _Ret_notnull_
#define _Reserved_
#define _Null_terminated_
#define _Printf_format_string_
#define _Use_decl_annotations_
#define _Function_class_(what)
#define _When_(when, what)
#define _Post_invalid_
#define _Field_size_(count)
#define _Field_size_bytes_(count)
#endif

PORTPOOL_WS_STATIC_ASSERT(sizeof(BOOL) == 4 && sizeof(LONG) == 4, "32 bits");
PORTPOOL_WS_STATIC_ASSERT(sizeof(WORD) == 2 && sizeof(USHORT) == 2, "16 bits");
PORTPOOL_WS_STATIC_ASSERT(sizeof(DWORD) == 4 && sizeof(ULONG) == 4, "32 bits");
PORTPOOL_WS_STATIC_ASSERT(sizeof(ULONG64) == 8 && sizeof(ULONG_PTR) == 8, "64 bits");
PORTPOOL_WS_STATIC_ASSERT(sizeof(DWORD_PTR) == 8 && sizeof(UINT_PTR) == 8, "64 bits");
#ifdef PORTPOOL_MSVC_COMPAT
PORTPOOL_WS_STATIC_ASSERT(sizeof(WCHAR) == 4, "32 bits: compile without -fshort-wchar");
#else
PORTPOOL_WS_STATIC_ASSERT(sizeof(WCHAR) == 2, "16 bits");
#endif
PORTPOOL_WS_STATIC_ASSERT(sizeof(HANDLE) == 8, "64 bits");
PORTPOOL_WS_LAYOUT(OVERLAPPED, 32, 8);
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, Internal) == 0, "layout of OVERLAPPED");
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, InternalHigh) == 8, "layout of OVERLAPPED");
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, Offset) == 16, "layout of OVERLAPPED");
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, OffsetHigh) == 20, "layout of OVERLAPPED");
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, Pointer) == 16, "layout of OVERLAPPED");
PORTPOOL_WS_STATIC_ASSERT(offsetof(OVERLAPPED, hEvent) == 24, "layout of OVERLAPPED");

#endif
