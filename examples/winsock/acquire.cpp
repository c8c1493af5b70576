// Reserves ports, binds one of them, gives them back; written as for Windows:
//
//     acquire 2 2 17 5000 20
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

int wmain(int argc, WCHAR **argv)
{
    WSADATA wsaData;
    SOCKET sock = INVALID_SOCKET;
    int iFamily, iType, iProtocol;
    INET_PORT_RANGE portRange = {0};
    INET_PORT_RESERVATION_INSTANCE portRes = {0};
    INET_PORT_RESERVATION_TOKEN portToken = {0};
    sockaddr_in service, bound;
    DWORD bytesReturned = 0;
    int iResult, nameLen;

    if (argc != 6) {
        wprintf(L"usage: %ws <family> <type> <protocol> <first port> <number of ports>\n", argv[0]);
        wprintf(L"       %ws 2 2 17 5000 20    (AF_INET, SOCK_DGRAM, IPPROTO_UDP)\n", argv[0]);
        return 1;
    }
    iFamily = _wtoi(argv[1]);
    iType = _wtoi(argv[2]);
    iProtocol = _wtoi(argv[3]);
    portRange.StartPort = htons((USHORT)_wtoi(argv[4]));
    portRange.NumberOfPorts = (USHORT)_wtoi(argv[5]);

    iResult = WSAStartup(MAKEWORD(2, 2), &wsaData);
    if (iResult != 0) {
        wprintf(L"WSAStartup failed: %d\n", iResult);
        return 1;
    }
    sock = socket(iFamily, iType, iProtocol);
    if (sock == INVALID_SOCKET) {
        wprintf(L"socket failed: %d\n", WSAGetLastError());
        WSACleanup();
        return 1;
    }

    iResult = WSAIoctl(sock, SIO_ACQUIRE_PORT_RESERVATION, (LPVOID)&portRange, sizeof(INET_PORT_RANGE),
                       (LPVOID)&portRes, sizeof(INET_PORT_RESERVATION_INSTANCE), &bytesReturned, NULL,
                       NULL);
    if (iResult != 0) {
        wprintf(L"SIO_ACQUIRE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    wprintf(L"acquired: %u ports, the first is %u, token %I64u\n", portRes.Reservation.NumberOfPorts,
            ntohs(portRes.Reservation.StartPort), portRes.Token.Token);

    portToken.Token = portRes.Token.Token;
    iResult = WSAIoctl(sock, SIO_ASSOCIATE_PORT_RESERVATION, (LPVOID)&portToken, sizeof(portToken), NULL,
                       0, &bytesReturned, NULL, NULL);
    if (iResult != 0) {
        wprintf(L"SIO_ASSOCIATE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }

    ZeroMemory(&service, sizeof(service));
    service.sin_family = (ADDRESS_FAMILY)iFamily;
    service.sin_addr.s_addr = INADDR_ANY;
    service.sin_port = 0;
    if (bind(sock, (SOCKADDR *)&service, sizeof(service)) == SOCKET_ERROR) {
        wprintf(L"bind failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    nameLen = sizeof(bound);
    if (getsockname(sock, (sockaddr *)&bound, &nameLen) == SOCKET_ERROR) {
        wprintf(L"getsockname failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    wprintf(L"bound to port %u\n", ntohs(bound.sin_port));

    // While the socket is bound: it keeps its own port.
    iResult = WSAIoctl(sock, SIO_RELEASE_PORT_RESERVATION, (LPVOID)&portToken, sizeof(portToken), NULL, 0,
                       &bytesReturned, NULL, NULL);
    if (iResult != 0) {
        wprintf(L"SIO_RELEASE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        WSACleanup();
        return 1;
    }
    wprintf(L"released\n");
    closesocket(sock);
    WSACleanup();
    return 0;
}
