/* Cases 84 to 100: overlapped operation. */
#include "overlapped.h"

struct completion completion;
static struct operation one, two;

void CALLBACK record_completion(DWORD error, DWORD bytes, LPWSAOVERLAPPED overlapped, DWORD flags) {
    completion.calls++;
    completion.error = error;
    completion.bytes = bytes;
    completion.overlapped = overlapped;
    completion.flags = flags;
    completion.thread = this_thread();
}

WSAEVENT new_event(void) {
    WSAEVENT event = WSACreateEvent();
    EXPECT(event != WSA_INVALID_EVENT);
    return event;
}

int is_signalled(WSAEVENT event) {
    return WSAWaitForMultipleEvents(1, &event, TRUE, 0, FALSE) == WSA_WAIT_EVENT_0;
}

void start(struct operation *operation, SOCKET socket, unsigned port, unsigned count, WSAEVENT event,
           LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    memset(operation, 0, sizeof *operation);
    operation->socket = socket;
    operation->overlapped.hEvent = event;
    operation->bytes = 0xdeadbeef;
    operation->range.StartPort = htons((USHORT)port);
    operation->range.NumberOfPorts = (USHORT)count;
    WSASetLastError(0);
    operation->code =
        code_of(WSAIoctl(socket, SIO_ACQUIRE_PORT_RESERVATION, &operation->range,
                         sizeof operation->range, &operation->instance, sizeof operation->instance,
                         &operation->bytes, &operation->overlapped, routine));
}

void start_pending(struct operation *operation, SOCKET socket, unsigned port, WSAEVENT event,
                   LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    if (!has_keeper()) fail(__FILE__, __LINE__, "no keeper runs beside the suite");
    stop_keeper();
    start(operation, socket, port, 4, event, routine);
    if (operation->code != WSA_IO_PENDING) continue_keeper();
    EXPECT_EQUAL(operation->code, WSA_IO_PENDING);
}

int has_completed(struct operation *operation) { return HasOverlappedIoCompleted(&operation->overlapped); }

int outcome(struct operation *operation, DWORD *bytes) {
    unsigned long long deadline = milliseconds() + 20000;
    DWORD flags = 77, count = 0;
    for (;;) {
        WSASetLastError(0);
        if (WSAGetOverlappedResult(operation->socket, &operation->overlapped, &count, FALSE, &flags)) {
            EXPECT_EQUAL(flags, 0);
            if (bytes != NULL) *bytes = count;
            return 0;
        }
        if (WSAGetLastError() != WSA_IO_INCOMPLETE) return WSAGetLastError();
        EXPECT(milliseconds() < deadline);
        SleepEx(1, FALSE);
    }
}

void case_84(void) {
    WSAEVENT event = new_event();
    DWORD bytes = 0, flags = 77;
    start(&one, tcp(), 0, 4, event, NULL);
    EXPECT(one.code == 0 || one.code == WSA_IO_PENDING);
    EXPECT_EQUAL(WSAWaitForMultipleEvents(1, &event, TRUE, 20000, FALSE), WSA_WAIT_EVENT_0);
    EXPECT(WSAGetOverlappedResult(one.socket, &one.overlapped, &bytes, FALSE, &flags));
    EXPECT_EQUAL(bytes, 16);
    EXPECT_EQUAL(flags, 0);
    EXPECT(TOKEN_OF(one.instance) != 0);
    EXPECT(has_completed(&one));
    EXPECT_EQUAL(one.overlapped.InternalHigh, 16);
    if (one.code == 0) EXPECT_EQUAL(one.bytes, 16);
    /* The same answer again. */
    EXPECT(WSAGetOverlappedResult(one.socket, &one.overlapped, &bytes, TRUE, &flags));
    detail("%d, event set, %u bytes, %u", one.code, (unsigned)bytes, START_OF(one.instance));
}

void case_85(void) {
    DWORD bytes = 0xdeadbeef, flags;
    start_pending(&one, tcp(), EPHEMERAL_PORT, NULL, NULL);
    WSASetLastError(0);
    EXPECT(!WSAGetOverlappedResult(one.socket, &one.overlapped, &bytes, FALSE, &flags));
    EXPECT_EQUAL(WSAGetLastError(), WSA_IO_INCOMPLETE);
    EXPECT(!has_completed(&one));
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, &bytes), 0);
    detail("%d, then %u bytes", WSA_IO_INCOMPLETE, (unsigned)bytes);
}

static void *continue_soon(void *unused) {
    SleepEx(50, FALSE);
    continue_keeper();
    return unused;
}

void case_86(void) {
    DWORD bytes = 0, flags = 77;
    thread_name thread;
    start_pending(&one, tcp(), EPHEMERAL_PORT + 10, new_event(), NULL);
    thread = start_thread(continue_soon, NULL);
    EXPECT(WSAGetOverlappedResult(one.socket, &one.overlapped, &bytes, TRUE, &flags));
    join_thread(thread);
    EXPECT_EQUAL(bytes, 16);
    EXPECT_EQUAL(START_OF(one.instance), EPHEMERAL_PORT + 10);
    detail("waited, %u bytes", (unsigned)bytes);
}

void case_87(void) {
    start_pending(&one, tcp(), EPHEMERAL_PORT + 20, NULL, NULL);
    EXPECT_EQUAL(one.bytes, 0xdeadbeefu);
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, NULL), 0);
    EXPECT_EQUAL(one.bytes, 0xdeadbeefu);
    detail("0x%x", (unsigned)one.bytes);
}

void case_88(void) {
    WSAEVENT event = new_event();
    WSAOVERLAPPED untouched;
    SOCKET made = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, 0);
    EXPECT(made != INVALID_SOCKET);
    start(&one, made, 0, 4, event, record_completion);
    EXPECT_EQUAL(one.code, 0);
    EXPECT_EQUAL(one.bytes, 16);
    EXPECT(!is_signalled(event));
    memset(&untouched, 0, sizeof untouched);
    untouched.hEvent = event;
    EXPECT(memcmp(&untouched, &one.overlapped, sizeof untouched) == 0);
    EXPECT_EQUAL(SleepEx(0, TRUE), 0);
    EXPECT_EQUAL(completion.calls, 0);
    detail("count %u, event and structure untouched", (unsigned)one.bytes);
}

void case_89(void) {
    SOCKET asked = WSASocketW(AF_INET, SOCK_STREAM, IPPROTO_TCP, NULL, 0, WSA_FLAG_OVERLAPPED);
    start(&one, tcp(), 0, 4, NULL, record_completion);
    EXPECT(one.code == 0 || one.code == WSA_IO_PENDING);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.calls, 1);
    start(&two, asked, 0, 4, NULL, record_completion);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.calls, 2);
    detail("the routine was called for both");
}

void case_90(void) {
    WSAEVENT never = new_event();
    start(&one, tcp(), 0, 4, NULL, record_completion);
    EXPECT(one.code == 0 || one.code == WSA_IO_PENDING);
    EXPECT_EQUAL(outcome(&one, NULL), 0);
    SleepEx(0, FALSE);
    EXPECT_EQUAL(WSAWaitForMultipleEvents(1, &never, TRUE, 1, FALSE), WSA_WAIT_TIMEOUT);
    EXPECT_EQUAL(completion.calls, 0);
    EXPECT_EQUAL(SleepEx(0, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.calls, 1);
    EXPECT_EQUAL(SleepEx(0, TRUE), 0);
    EXPECT_EQUAL(completion.calls, 1);
    detail("not called before, then once and 0x%x", (unsigned)WSA_WAIT_IO_COMPLETION);
}

void case_91(void) {
    INET_PORT_RESERVATION_TOKEN token;
    WSAOVERLAPPED overlapped;
    DWORD bytes = 0;
    int code;
    start(&one, tcp(), 0, 4, NULL, record_completion);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.error, 0);
    EXPECT_EQUAL(completion.bytes, 16);
    EXPECT(completion.overlapped == &one.overlapped);
    EXPECT_EQUAL(completion.flags, 0);
    EXPECT_EQUAL(completion.thread, this_thread());
    memset(&overlapped, 0, sizeof overlapped);
    token.Token = TOKEN_OF(one.instance);
    code = code_of(WSAIoctl(tcp(), SIO_ASSOCIATE_PORT_RESERVATION, &token, 8, NULL, 0, &bytes,
                            &overlapped, record_completion));
    EXPECT(code == 0 || code == WSA_IO_PENDING);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.calls, 2);
    EXPECT_EQUAL(completion.error, 0);
    EXPECT_EQUAL(completion.bytes, 0);
    EXPECT(completion.overlapped == &overlapped);
    EXPECT_EQUAL(completion.flags, 0);
    detail("(0, 16, same, 0) and (0, 0, same, 0)");
}

void case_92(void) {
    start(&one, tcp(), 0, 4, (WSAEVENT)0xdead, record_completion);
    EXPECT(one.code == 0 || one.code == WSA_IO_PENDING);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    EXPECT_EQUAL(completion.error, 0);
    EXPECT(one.overlapped.hEvent == (WSAEVENT)0xdead);
    detail("hEvent is %p still", one.overlapped.hEvent);
}

void case_93(void) {
    struct reserved block = reserve(SOCK_STREAM, 4);
    struct operation late;
    INET_PORT_RESERVATION_INSTANCE instance;
    SOCKET other = tcp();
    /* Early: nothing was started, nothing completes. */
    start(&one, tcp(), block.port, 4, NULL, record_completion);
    EXPECT_EQUAL(one.code, WSAEADDRINUSE);
    EXPECT_EQUAL(SleepEx(0, TRUE), 0);
    EXPECT_EQUAL(completion.calls, 0);
    /* Late: somebody is quicker while the keeper thinks. */
    start_pending(&late, tcp(), EPHEMERAL_PORT + 30, NULL, NULL);
    EXPECT_EQUAL(bind_to(other, EPHEMERAL_PORT + 31), 0);
    continue_keeper();
    EXPECT_EQUAL(outcome(&late, NULL), WSAEADDRINUSE);
    EXPECT_EQUAL(acquire(tcp(), block.port, 4, &instance), WSAEADDRINUSE);
    detail("%d directly and by completion", WSAEADDRINUSE);
}

void case_94(void) {
    SOCKET made = tcp();
    WSAEVENT event = new_event();
    start_pending(&one, made, EPHEMERAL_PORT + 40, event, NULL);
    EXPECT_EQUAL(closesocket(made), 0);
    EXPECT_EQUAL(WSAWaitForMultipleEvents(1, &event, TRUE, 20000, FALSE), WSA_WAIT_EVENT_0);
    EXPECT(has_completed(&one));
    continue_keeper();
    EXPECT_EQUAL(ask("bind 4 tcp loopback %d plain", EPHEMERAL_PORT + 40).code, 0);
    /* The routine says with what. */
    made = tcp();
    start_pending(&one, made, EPHEMERAL_PORT + 45, NULL, record_completion);
    EXPECT_EQUAL(closesocket(made), 0);
    EXPECT_EQUAL(SleepEx(20000, TRUE), WSA_WAIT_IO_COMPLETION);
    continue_keeper();
    EXPECT_EQUAL(completion.error, WSA_OPERATION_ABORTED);
    EXPECT_EQUAL(ask("bind 4 tcp loopback %d plain", EPHEMERAL_PORT + 45).code, 0);
    detail("completed at once with %u", (unsigned)completion.error);
}

static void *start_and_exit(void *event) {
    start_pending(&one, two.socket, EPHEMERAL_PORT + 50, (WSAEVENT)event, NULL);
    return NULL;
}

void case_95(void) {
    WSAEVENT event = new_event();
    two.socket = tcp();
    join_thread(start_thread(start_and_exit, event));
    EXPECT_EQUAL(WSAWaitForMultipleEvents(1, &event, TRUE, 20000, FALSE), WSA_WAIT_EVENT_0);
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, NULL), WSA_OPERATION_ABORTED);
    detail("%d", WSA_OPERATION_ABORTED);
}

void case_96(void) {
    DWORD bytes = 0xdeadbeef, flags;
    DWORD count;
    SOCKET made = tcp();
    start_pending(&one, made, EPHEMERAL_PORT + 60, NULL, NULL);
    EXPECT_EQUAL(control(made, SIO_FLUSH, NULL, 0, NULL, 0, &count), 0);
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, NULL), WSA_OPERATION_ABORTED);
    WSASetLastError(0);
    EXPECT(!WSAGetOverlappedResult(made, &one.overlapped, &bytes, TRUE, &flags));
    EXPECT_EQUAL(WSAGetLastError(), WSA_OPERATION_ABORTED);
    EXPECT_EQUAL(bytes, 0xdeadbeefu);
    detail("FALSE, %d, count 0x%x", WSA_OPERATION_ABORTED, (unsigned)bytes);
}

void case_97(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    INET_PORT_RANGE range = {0, htons(0)};
    DWORD bytes = 0;
    range.NumberOfPorts = 4;
    EXPECT_EQUAL(code_of(WSAIoctl(tcp(), SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &instance, 16, &bytes,
                                  NULL, record_completion)), 0);
    EXPECT_EQUAL(bytes, 16);
    EXPECT_EQUAL(SleepEx(0, TRUE), 0);
    EXPECT_EQUAL(completion.calls, 0);
    detail("16 bytes, routine never called");
}

void case_98(void) {
    DWORD bytes, flags;
    start_pending(&one, tcp(), EPHEMERAL_PORT + 70, NULL, NULL);
    WSASetLastError(0);
    EXPECT(!WSAGetOverlappedResult(one.socket, &one.overlapped, &bytes, TRUE, &flags));
    EXPECT_EQUAL(WSAGetLastError(), WSA_INVALID_HANDLE);
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, NULL), 0);
    detail("%d", WSA_INVALID_HANDLE);
}

void case_99(void) {
    INET_PORT_RESERVATION_INSTANCE instance;
    INET_PORT_RANGE range = {0, 4};
    WSAOVERLAPPED overlapped;
    int code;
    memset(&overlapped, 0, sizeof overlapped);
    WSASetLastError(0);
    code = code_of(WSAIoctl(tcp(), SIO_ACQUIRE_PORT_RESERVATION, &range, 4, &instance, 16, NULL,
                            &overlapped, NULL));
    detail("%d", code);
    EXPECT_EQUAL(code, WSAEFAULT);
}

void case_100(void) {
    start_pending(&one, tcp(), EPHEMERAL_PORT + 80, NULL, NULL);
    memset(&one.range, 0xff, sizeof one.range);
    continue_keeper();
    EXPECT_EQUAL(outcome(&one, NULL), 0);
    detail("%u", START_OF(one.instance));
    EXPECT_EQUAL(START_OF(one.instance), EPHEMERAL_PORT + 80);
    EXPECT_EQUAL(COUNT_OF(one.instance), 4);
}
