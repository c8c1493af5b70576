#ifndef UNICODE
#define UNICODE
#endif
#define WIN32_LEAN_AND_MEAN
#include <Windows.h.>
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2spi.h>
#include <ws2tcpip.h>
#include <stdio.h>
#include <stdlib.h>
#include <tchar.h>

#pragma comment(lib, "Ws2_32.lib")

/* Layouts have the widths of Windows whatever WCHAR is. */
PORTPOOL_WS_STATIC_ASSERT(sizeof(WSPDATA) == 516, "WSPDATA");
PORTPOOL_WS_STATIC_ASSERT(sizeof(WSAPROTOCOL_INFO) == 628, "WSAPROTOCOL_INFO");

static void print_error(DWORD code)
{
    LPTSTR text = NULL;
    WCHAR buffer[64];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    DWORD len = FormatMessage(flags | FORMAT_MESSAGE_ALLOCATE_BUFFER, NULL, code,
                              MAKELANGID(LANG_NEUTRAL, SUBLANG_DEFAULT), (LPTSTR)&text, 0, NULL);
    if (len != wcslen(text) || FormatMessage(flags, NULL, code, 0, buffer, 64, NULL) != len)
        ExitProcess(3);
    if (wcscmp(text, buffer) != 0 || FormatMessage(flags, NULL, code, 0, buffer, 3, NULL) != 0)
        ExitProcess(4);
    wprintf(L"%lu: %s", code, text);
    LocalFree(text);
}

static void wide_log(const wchar_t *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfwprintf(stdout, format, arguments);
    va_end(arguments);
}

static void narrow_log(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

int wmain(int argc, WCHAR **argv)
{
    unsigned __int64 large = 0x100000005;
    LONG small = -7;
    int number = argc > 1 ? _wtoi(argv[1]) : 0;
    WCHAR wide[32] = TEXT("literal");
    char narrow[32];
    sockaddr_in service;
    IN_ADDR address;

    wprintf(L"%ws|%s|%hs|%I64u|%ld|%d\n", argv[1], argv[2], "narrow", large, small, number);
    printf("%ws|%s|%I64u|%ld|%5d|%%\n", argv[1], "text", large, small, number);
    wprintf(L"mixed again %c\n", L'x');
    wide_log(L"%s %I64d\n", wide, large);
    narrow_log("%ws %I64d\n", argv[2], large);
    wide_log(L"%hs\n", "gr\303\274n");
    swprintf(wide, ARRAYSIZE(wide), L"%ws-%I64u", L"made", large);
    sprintf_s(narrow, sizeof(narrow), "%ws %I64x", wide, large);
    printf("%s\n", narrow);
    _putws(wide);
    print_error(WSAEADDRINUSE);

    ZeroMemory(&service, sizeof(service));
    service.sin_family = AF_INET;
    if (InetPton(AF_INET, TEXT("127.0.0.1"), &service.sin_addr) != 1 ||
        InetNtop(AF_INET, &service.sin_addr, wide, ARRAYSIZE(wide)) != wide)
        return 5;
    _tprintf(_T("%s %d\n"), wide, InetPtonA(AF_INET, "::1", &address));
    return argc - 3;
}
