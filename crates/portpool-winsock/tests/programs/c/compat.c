#ifndef UNICODE
#define UNICODE
#endif
#define WIN32_LEAN_AND_MEAN
#include <Windows.h.>
#include <winsock2.h>
#include <mstcpip.h>
#include <stdio.h>
#include <stdlib.h>

#pragma comment(lib, "Ws2_32.lib")

int __cdecl wmain(int argc, wchar_t **argv)
{
    unsigned __int64 large = 0x100000005;
    LONG small = -7;
    int number = argc > 1 ? _wtoi(argv[1]) : 0;
    wprintf(L"%ws|%s|%hs|%I64u|%ld|%d\n", argv[1], argv[2], "narrow", large, small, number);
    printf("%ws|%s|%I64u|%ld|%5d|%%\n", argv[1], "text", large, small, number);
    wprintf(L"mixed again %c\n", L'x');
    return argc - 3;
}
