// Reserves ports and gives them back, and tells what each call stored; written as for Windows:
//
//     release 2 1 6 0 20
//
// address family, type of socket, protocol, first port (0 for any), number of ports.
#ifndef UNICODE
#define UNICODE
#endif

#define WIN32_LEAN_AND_MEAN

#include <Windows.h.>
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2ipdef.h>
#include <stdio.h>
#include <stdlib.h>

#pragma comment(lib, "Ws2_32.lib")

int __cdecl wmain(int argc, wchar_t **argv)
{
    WSADATA wsaData;
    SOCKET sock = INVALID_SOCKET;
    INET_PORT_RANGE portRange = {0};
    INET_PORT_RESERVATION_INSTANCE portRes = {0};
    INET_PORT_RESERVATION_TOKEN portToken = {0};
    DWORD bytesReturned = 0;
    int iResult;

    if (argc != 6) {
        wprintf(L"usage: %ws <family> <type> <protocol> <first port> <number of ports>\n", argv[0]);
        return 1;
    }
    iResult = WSAStartup(MAKEWORD(2, 2), &wsaData);
    if (iResult != 0) {
        wprintf(L"WSAStartup failed: %d\n", iResult);
        return 1;
    }
    sock = socket(_wtoi(argv[1]), _wtoi(argv[2]), _wtoi(argv[3]));
    if (sock == INVALID_SOCKET) {
        wprintf(L"socket failed: %d\n", WSAGetLastError());
        WSACleanup();
        return 1;
    }
    portRange.StartPort = htons((USHORT)_wtoi(argv[4]));
    portRange.NumberOfPorts = (USHORT)_wtoi(argv[5]);

    iResult = WSAIoctl(sock, SIO_ACQUIRE_PORT_RESERVATION, (LPVOID)&portRange, sizeof(INET_PORT_RANGE),
                       (LPVOID)&portRes, sizeof(INET_PORT_RESERVATION_INSTANCE), &bytesReturned, NULL,
                       NULL);
    if (iResult != 0) {
        wprintf(L"SIO_ACQUIRE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    wprintf(L"first port %u, number of ports %u\n", ntohs(portRes.Reservation.StartPort),
            portRes.Reservation.NumberOfPorts);
    wprintf(L"bytes of ACQUIRE %lu\n", bytesReturned);

    portToken.Token = portRes.Token.Token;
    iResult = WSAIoctl(sock, SIO_RELEASE_PORT_RESERVATION, (LPVOID)&portToken, sizeof(portToken), NULL, 0,
                       &bytesReturned, NULL, NULL);
    if (iResult != 0) {
        wprintf(L"SIO_RELEASE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    wprintf(L"bytes of RELEASE %lu\n", bytesReturned);
    closesocket(sock);
    WSACleanup();
    return 0;
}
