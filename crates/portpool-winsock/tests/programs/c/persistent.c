/* Persistent blocks; with the argument `nobody` where no keeper runs. */
#include <winsock2.h>
#include <iphlpapi.h>
#include <mstcpip.h>
#include <unistd.h>

#include "check.h"

static void without_keeper(void)
{
    ULONG64 token = 7;
    CHECK(CreatePersistentTcpPortReservation(htons(5000), 4, &token) == ERROR_SERVICE_NOT_ACTIVE);
    CHECK(DeletePersistentUdpPortReservation(htons(5000), 4) == ERROR_SERVICE_NOT_ACTIVE);
    CHECK(token == 7);
    /* Looking needs nobody. */
    CHECK(LookupPersistentTcpPortReservation(htons(5000), 4, &token) == ERROR_NOT_FOUND);
    CHECK(token == 7);
}

static void parameters(void)
{
    ULONG64 token = 7;
    CHECK(CreatePersistentTcpPortReservation(0, 4, &token) == ERROR_INVALID_PARAMETER);
    CHECK(CreatePersistentUdpPortReservation(htons(5000), 0, &token) == ERROR_INVALID_PARAMETER);
    CHECK(LookupPersistentTcpPortReservation(0, 4, &token) == ERROR_INVALID_PARAMETER);
    CHECK(LookupPersistentUdpPortReservation(htons(5000), 0, &token) == ERROR_INVALID_PARAMETER);
    CHECK(DeletePersistentTcpPortReservation(0, 4) == ERROR_INVALID_PARAMETER);
    CHECK(DeletePersistentUdpPortReservation(htons(5000), 0) == ERROR_INVALID_PARAMETER);
    CHECK(CreatePersistentTcpPortReservation(htons(65530), 10, &token) == ERROR_INVALID_PARAMETER);
    CHECK(CreatePersistentTcpPortReservation(htons(5000), 4, NULL) == ERROR_INVALID_PARAMETER);
    CHECK(CreatePersistentTcpPortReservation(htons(5000), 4, (PULONG64)8) == ERROR_INVALID_PARAMETER);
    CHECK(LookupPersistentTcpPortReservation(htons(5000), 4, NULL) == ERROR_INVALID_PARAMETER);
    CHECK(token == 7);
}

static void life(void)
{
    INET_PORT_RESERVATION_INSTANCE out;
    ULONG64 token = 0, found = 0;
    SOCKET busy = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
    SOCKET plain = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind_to(busy, INADDR_LOOPBACK, 5013) == 0);
    CHECK(CreatePersistentTcpPortReservation(htons(5010), 4, &token) == ERROR_SHARING_VIOLATION);
    CHECK(acquire(busy, 5020, 2, &out) == 0);
    CHECK(CreatePersistentTcpPortReservation(htons(5019), 2, &token) == ERROR_SHARING_VIOLATION);
    CHECK(token == 0);

    CHECK(CreatePersistentTcpPortReservation(htons(5000), 4, &token) == NO_ERROR && token != 0);
    CHECK(CreatePersistentTcpPortReservation(htons(5000), 4, &found) == ERROR_SHARING_VIOLATION);
    CHECK(CreatePersistentTcpPortReservation(htons(5003), 1, &found) == ERROR_SHARING_VIOLATION);
    CHECK(CreatePersistentTcpPortReservation(htons(4999), 6, &found) == ERROR_SHARING_VIOLATION);
    CHECK(LookupPersistentTcpPortReservation(htons(5000), 4, &found) == NO_ERROR && found == token);
    CHECK(LookupPersistentTcpPortReservation(htons(5000), 3, &found) == ERROR_NOT_FOUND);
    CHECK(LookupPersistentTcpPortReservation(htons(5001), 3, &found) == ERROR_NOT_FOUND);
    CHECK(LookupPersistentUdpPortReservation(htons(5000), 4, &found) == ERROR_NOT_FOUND);
    CHECK(DeletePersistentUdpPortReservation(htons(5000), 4) == ERROR_NOT_FOUND);

    FAILS(bind_to(plain, INADDR_LOOPBACK, 5000), WSAEACCES);
    FAILS(acquire(plain, 5000, 1, &out), WSAEADDRINUSE);
    FAILS(release(plain, token), WSAEINVAL);
    CHECK(associate(s, token) == 0 && bind_to(s, INADDR_LOOPBACK, 0) == 0);
    CHECK(port_of(s) == 5000);
    CHECK(DeletePersistentTcpPortReservation(htons(5000), 4) == NO_ERROR);
    CHECK(DeletePersistentTcpPortReservation(htons(5000), 4) == ERROR_NOT_FOUND);
    CHECK(port_of(s) == 5000);
    FAILS(associate(plain, token), WSAEINVAL);

    /* The port is in network order. */
    CHECK(CreatePersistentUdpPortReservation(5000, 1, &token) == NO_ERROR);
    CHECK(LookupPersistentUdpPortReservation(htons(34835), 1, &found) == NO_ERROR);
    CHECK(found == token && DeletePersistentUdpPortReservation(5000, 1) == NO_ERROR);
}

/* What the token is worth without privilege. */
static void unprivileged(void)
{
    ULONG64 token, found;
    SOCKET s = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(CreatePersistentUdpPortReservation(htons(5000), 4, &token) == NO_ERROR);
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    CHECK(LookupPersistentUdpPortReservation(htons(5000), 4, &found) == NO_ERROR && found == token);
    FAILS(associate(s, token), WSAEACCES);
}

int main(int argc, char **argv)
{
    start();
    parameters();
    if (argc > 1 && strcmp(argv[1], "nobody") == 0) {
        without_keeper();
    } else {
        life();
        unprivileged();
    }
    CHECK(WSACleanup() == 0);
    return 0;
}
