/* Written as the documentation of Windows writes its samples, and builds as C and as C++. */
#ifndef UNICODE
#define UNICODE
#endif

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif

#include <Windows.h.>
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2ipdef.h>
#include <iphlpapi.h>
#include <stdio.h>
#include <stdlib.h>

#pragma comment(lib, "ws2_32.lib")
#pragma comment(lib, "iphlpapi.lib")

int wmain(int argc, WCHAR ** argv)
{
    INET_PORT_RANGE portRange = { 0 };
    INET_PORT_RESERVATION_INSTANCE portRes = { 0 };
    ULONG64 resToken = { 0 };
    unsigned long status = 0;
    WSADATA wsaData = { 0 };
    SOCKET sock = INVALID_SOCKET;
    DWORD bytesReturned = 0;
    sockaddr_in service;
    sockaddr_in sockName;
    int nameLen = sizeof (sockName);
    int iResult = 0;

    if (argc != 6) {
        wprintf(L"usage: %s <addressfamily> <type> <protocol> <StartingPort> <NumberOfPorts>\n",
                argv[0]);
        wprintf(L"   %ws 2 2 17 5000 20", argv[0]);
        return 1;
    }
    iResult = WSAStartup(MAKEWORD(2, 2), &wsaData);
    if (iResult != 0) {
        wprintf(L"WSAStartup failed with error = %d\n", iResult);
        return 1;
    }
    portRange.StartPort = htons((USHORT) _wtoi(argv[4]));
    portRange.NumberOfPorts = (USHORT) _wtoi(argv[5]);
    sock = socket(_wtoi(argv[1]), _wtoi(argv[2]), _wtoi(argv[3]));
    iResult =
        WSAIoctl(sock, SIO_ACQUIRE_PORT_RESERVATION, (LPVOID) & portRange,
                 sizeof (INET_PORT_RANGE), (LPVOID) & portRes,
                 sizeof (INET_PORT_RESERVATION_INSTANCE), &bytesReturned, NULL, NULL);
    if (iResult != 0) {
        wprintf(L"acquire failed with error = %d\n", WSAGetLastError());
        return 1;
    }
    wprintf(L"acquire succeeded, bytesReturned = %u\n", bytesReturned);
    wprintf(L"  Starting port=%d,  Number of Ports=%d, Token=%I64d\n",
            htons(portRes.Reservation.StartPort), portRes.Reservation.NumberOfPorts, portRes.Token);

    iResult =
        WSAIoctl(sock, SIO_ASSOCIATE_PORT_RESERVATION, (LPVOID) & portRes.Token,
                 sizeof (ULONG64), NULL, 0, &bytesReturned, NULL, NULL);
    if (iResult != 0) {
        wprintf(L"associate failed with error = %d\n", WSAGetLastError());
        return 1;
    }
    service.sin_family = (ADDRESS_FAMILY) _wtoi(argv[1]);
    service.sin_addr.s_addr = INADDR_ANY;
    service.sin_port = 0;
    iResult = bind(sock, (SOCKADDR *) & service, sizeof (service));
    if (iResult == SOCKET_ERROR) {
        wprintf(L"bind failed with error = %d\n", WSAGetLastError());
        return 1;
    }
    iResult = getsockname(sock, (SOCKADDR *) & sockName, &nameLen);
    if (iResult == SOCKET_ERROR) {
        wprintf(L"getsockname failed with error = %d\n", WSAGetLastError());
        return 1;
    }
    wprintf(L"Port number allocated = %u\n", ntohs(sockName.sin_port));

    iResult =
        WSAIoctl(sock, SIO_RELEASE_PORT_RESERVATION, (LPVOID) & portRes.Token, sizeof (ULONG64),
                 NULL, 0, &bytesReturned, NULL, NULL);
    wprintf(L"release: %d, bytesReturned = %u\n", iResult, bytesReturned);
    closesocket(sock);

    status = LookupPersistentTcpPortReservation(portRange.StartPort, portRange.NumberOfPorts,
                                                &resToken);
    wprintf(L"lookup: %ld\n", status);
    WSACleanup();
    return iResult;
}
