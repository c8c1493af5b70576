// Creates a persistent block, binds a port of it and deletes it; written as for Windows. It needs
// CAP_NET_ADMIN and a running keeper:
//
//     persistent 5000 20
//
// first port, number of ports.
#ifndef UNICODE
#define UNICODE
#endif

#define WIN32_LEAN_AND_MEAN

#include <Windows.h.>
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2ipdef.h>
#include <iphlpapi.h>
#include <stdio.h>
#include <stdlib.h>

#pragma comment(lib, "Ws2_32.lib")
#pragma comment(lib, "Iphlpapi.lib")

static int consume(ULONG64 token)
{
    INET_PORT_RESERVATION_TOKEN portToken;
    sockaddr_in service;
    DWORD bytesReturned = 0;
    int nameLen = sizeof(service);
    SOCKET sock = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);

    if (sock == INVALID_SOCKET) {
        wprintf(L"socket failed: %d\n", WSAGetLastError());
        return 1;
    }
    portToken.Token = token;
    if (WSAIoctl(sock, SIO_ASSOCIATE_PORT_RESERVATION, (LPVOID)&portToken, sizeof(portToken), NULL, 0,
                 &bytesReturned, NULL, NULL) != 0) {
        wprintf(L"SIO_ASSOCIATE_PORT_RESERVATION failed: %d\n", WSAGetLastError());
        closesocket(sock);
        return 1;
    }
    ZeroMemory(&service, sizeof(service));
    service.sin_family = AF_INET;
    service.sin_addr.s_addr = INADDR_ANY;
    if (bind(sock, (SOCKADDR *)&service, sizeof(service)) == SOCKET_ERROR ||
        getsockname(sock, (SOCKADDR *)&service, &nameLen) == SOCKET_ERROR) {
        wprintf(L"bind failed: %d\n", WSAGetLastError());
        closesocket(sock);
        return 1;
    }
    wprintf(L"bound to port %u\n", ntohs(service.sin_port));
    closesocket(sock);
    return 0;
}

int wmain(int argc, WCHAR **argv)
{
    WSADATA wsaData;
    USHORT startPort, numberOfPorts;
    ULONG64 token = 0, found = 0;
    ULONG status;
    int iResult;

    if (argc != 3) {
        wprintf(L"usage: %ws <first port> <number of ports>\n", argv[0]);
        return 1;
    }
    startPort = htons((USHORT)_wtoi(argv[1]));
    numberOfPorts = (USHORT)_wtoi(argv[2]);
    iResult = WSAStartup(MAKEWORD(2, 2), &wsaData);
    if (iResult != 0) {
        wprintf(L"WSAStartup failed: %d\n", iResult);
        return 1;
    }

    status = CreatePersistentTcpPortReservation(startPort, numberOfPorts, &token);
    if (status != NO_ERROR) {
        wprintf(L"CreatePersistentTcpPortReservation failed: %lu\n", status);
        WSACleanup();
        return 1;
    }
    wprintf(L"created, token %I64u\n", token);
    status = LookupPersistentTcpPortReservation(startPort, numberOfPorts, &found);
    if (status != NO_ERROR) {
        wprintf(L"LookupPersistentTcpPortReservation failed: %lu\n", status);
    } else {
        wprintf(L"looked up, token %I64u\n", found);
    }
    iResult = status == NO_ERROR ? consume(found) : 1;

    status = DeletePersistentTcpPortReservation(startPort, numberOfPorts);
    if (status != NO_ERROR) {
        wprintf(L"DeletePersistentTcpPortReservation failed: %lu\n", status);
        iResult = 1;
    } else {
        wprintf(L"deleted\n");
    }
    WSACleanup();
    return iResult;
}
