/*
 * The one table of the suite: CASE(number, mark, state, what), in the words of the checklist.
 *
 * Marks: D stated by the vendor's documentation, O observed, I our choice where it is silent.
 * States: TRUE_NOW, or NOT_YET(why). A case that is NOT_YET and passes makes the run fail, so that this
 * table never says less than what holds.
 */
#define CONSTANTS_AND_ACQUIRE(CASE)                                                                \
    CASE(1, D, TRUE_NOW, "the three codes are 0x98000064, 0x98000065, 0x98000066")                 \
    CASE(2, D, TRUE_NOW, "RANGE, TOKEN, INSTANCE have 4, 8, 16 bytes, Token is at 8")              \
    CASE(3, D, TRUE_NOW, "WSAOVERLAPPED, WSADATA, WSATHREADID have 32, 408, 16 bytes")             \
    CASE(4, D, TRUE_NOW, "C and C++ without vendor extensions: the same layout, 16 and 8")         \
    CASE(5, D, TRUE_NOW, "INVALID_PORT_RESERVATION_TOKEN is 0")                                    \
    CASE(6, D, TRUE_NOW, "TCP, specific free block of 4: 16 bytes, same start, count, a token")    \
    CASE(7, D, TRUE_NOW, "UDP, the same, independent of TCP")                                      \
    CASE(8, D, TRUE_NOW, "StartPort 0, count 8: a block inside 1..65535")                          \
    CASE(9, O, TRUE_NOW, "StartPort 0: the block lies in the dynamic range")                       \
    CASE(10, D, TRUE_NOW, "StartPort of the output is htons(p)")                                   \
    CASE(11, D, TRUE_NOW, "tokens of two acquires differ")                                         \
    CASE(12, O, TRUE_NOW, "10 wildcard acquires of 64 on one socket, disjoint")                    \
    CASE(13, O, TRUE_NOW, "another process acquires p of R: WSAEADDRINUSE")                        \
    CASE(14, O, TRUE_NOW, "the same process acquires an overlapping block: WSAEADDRINUSE")         \
    CASE(15, O, TRUE_NOW, "a plain socket is bound to p: WSAEADDRINUSE")                           \
    CASE(16, O, TRUE_NOW, "an administered exclusion contains p: WSAEADDRINUSE")                   \
    CASE(17, I, TRUE_NOW, "a persistent block contains p: WSAEADDRINUSE")                          \
    CASE(18, I, TRUE_NOW, "one busy port in the middle: WSAEADDRINUSE, no port reserved")          \
    CASE(19, D, TRUE_NOW, "the ports of a TCP R are acquired on UDP")                              \
    CASE(20, O, TRUE_NOW, "R of AF_INET, p acquired on AF_INET6: WSAEADDRINUSE")                   \
    CASE(21, I, TRUE_NOW, "NumberOfPorts 0: WSAEINVAL")                                            \
    CASE(22, I, TRUE_NOW, "start 65535 count 2: WSAEINVAL")                                        \
    CASE(23, I, TRUE_NOW, "start 65535 count 1 is granted")                                        \
    CASE(24, I, TRUE_NOW, "no free run, wildcard of 60000: WSAENOBUFS")                            \
    CASE(25, D, TRUE_NOW, "cbOutBuffer 15: WSAEINVAL, count 0, nothing reserved")                  \
    CASE(26, I, TRUE_NOW, "cbInBuffer 3: WSAEINVAL")                                               \
    CASE(27, D, TRUE_NOW, "lpvInBuffer NULL, cb 4: WSAEFAULT")                                     \
    CASE(28, D, TRUE_NOW, "lpvOutBuffer NULL, cb 16: WSAEFAULT, nothing reserved")                 \
    CASE(29, D, TRUE_NOW, "lpcbBytesReturned NULL, not overlapped: WSAEFAULT")                     \
    CASE(30, D, TRUE_NOW, "a raw socket, any of the three: WSAEOPNOTSUPP")                         \
    CASE(31, I, TRUE_NOW, "a bound socket acquires other ports")                                   \
    CASE(32, D, TRUE_NOW, "a non-administrator acquires")                                          \
    CASE(33, I, TRUE_NOW, "cbOutBuffer 32: 16 bytes, the tail untouched")

#define ASSOCIATE_AND_PLAIN(CASE)                                                                  \
    CASE(34, D, TRUE_NOW, "associate, bind port 0: a port of the block")                           \
    CASE(35, D, TRUE_NOW, "four times: four different ports; the fifth bind fails")                \
    CASE(36, I, TRUE_NOW, "the fifth bind: WSAENOBUFS")                                            \
    CASE(37, D, TRUE_NOW, "one of the four closed: its port is reused")                            \
    CASE(38, O, TRUE_NOW, "associate, bind p+2")                                                   \
    CASE(39, I, TRUE_NOW, "associate, bind p+4: WSAEADDRNOTAVAIL")                                 \
    CASE(40, I, TRUE_NOW, "two associated sockets bind p: the second WSAEADDRINUSE")               \
    CASE(41, O, TRUE_NOW, "the owner socket itself, associated, binds port 0")                     \
    CASE(42, O, TRUE_NOW, "three sockets associated before any bind")                              \
    CASE(43, D, TRUE_NOW, "a bound socket: WSAEINVAL")                                             \
    CASE(44, D, TRUE_NOW, "another process: WSAEACCES")                                            \
    CASE(45, I, TRUE_NOW, "a random or zero token: WSAEINVAL")                                     \
    CASE(46, I, TRUE_NOW, "a TCP token, a UDP socket: WSAEINVAL")                                  \
    CASE(47, O, TRUE_NOW, "R of AF_INET, an AF_INET6 socket binds port 0 in the block")            \
    CASE(48, D, TRUE_NOW, "cbInBuffer 7: WSAEINVAL")                                               \
    CASE(49, D, TRUE_NOW, "lpvInBuffer NULL, cb 8: WSAEFAULT")                                     \
    CASE(50, D, TRUE_NOW, "cbOutBuffer 8: WSAEINVAL")                                              \
    CASE(51, I, TRUE_NOW, "success: the count is 0")                                               \
    CASE(52, I, TRUE_NOW, "associated, connect without bind: local port in the block")             \
    CASE(53, I, TRUE_NOW, "associate t1, then t2, bind 0: a port of t2's block")                   \
    CASE(54, D, TRUE_NOW, "associate, no bind: all ports still available to others")               \
    CASE(55, O, TRUE_NOW, "another process binds p without a token: WSAEACCES")                    \
    CASE(56, I, TRUE_NOW, "the owning process binds p without association: WSAEACCES")             \
    CASE(57, O, TRUE_NOW, "0.0.0.0:p, 127.0.0.1:p and [::]:p: WSAEACCES")                          \
    CASE(58, I, TRUE_NOW, "with SO_REUSEADDR: WSAEACCES")                                          \
    CASE(59, D, TRUE_NOW, "many binds to port 0: no port of a reservation")                        \
    CASE(60, D, TRUE_NOW, "a TCP R, a plain UDP bind of p")                                        \
    CASE(61, O, TRUE_NOW, "an administered exclusion of p: a plain bind gets p, bind 0 never")

#define RELEASE_AND_GENERAL(CASE)                                                                  \
    CASE(62, D, TRUE_NOW, "release through the owner socket, then acquire the same block")         \
    CASE(63, I, TRUE_NOW, "release through another TCP socket of the process")                     \
    CASE(64, D, TRUE_NOW, "release by another process: WSAEINVAL, R intact")                       \
    CASE(65, I, TRUE_NOW, "release again: WSAEINVAL")                                              \
    CASE(66, I, TRUE_NOW, "release of a persistent token: WSAEINVAL, Lookup still finds it")       \
    CASE(67, D, TRUE_NOW, "owner socket associated and bound, then released: keeps its port")      \
    CASE(68, D, TRUE_NOW, "owner socket closed: block free for others at once")                    \
    CASE(69, D, TRUE_NOW, "kill -9 of the process: block free")                                    \
    CASE(70, I, TRUE_NOW, "owner closed: a bound socket works on, its port is not grantable")      \
    CASE(71, I, TRUE_NOW, "associated, then released, bind 0: WSAENOBUFS")                         \
    CASE(72, I, TRUE_NOW, "a socket with 3 reservations closed: all 3 gone")                       \
    CASE(73, I, TRUE_NOW, "a forked child associates: WSAEACCES; R survives its exit")             \
    CASE(74, D, TRUE_NOW, "cbInBuffer 16: released")                                               \
    CASE(75, D, TRUE_NOW, "cbOutBuffer 1: WSAEINVAL")                                              \
    CASE(76, I, TRUE_NOW, "lpvInBuffer NULL, cb 8: WSAEFAULT")                                     \
    CASE(77, D, TRUE_NOW, "closed or garbage handle: WSAENOTSOCK")                                 \
    CASE(78, I, TRUE_NOW, "no WSAStartup: WSANOTINITIALISED")                                      \
    CASE(79, I, TRUE_NOW, "code 0x98000067: WSAEOPNOTSUPP")                                        \
    CASE(80, I, TRUE_NOW, "code 0xD8000065 is not RELEASE")                                        \
    CASE(81, D, TRUE_NOW, "FIONBIO, synchronous ACQUIRE under contention: never WSAEWOULDBLOCK")   \
    CASE(82, I, TRUE_NOW, "no reservation service: WSAENETDOWN")                                   \
    CASE(83, I, TRUE_NOW, "bad socket and NULL count: WSAENOTSOCK")

#define OVERLAPPED_AND_PROVIDER(CASE)                                                              \
    CASE(84, D, TRUE_NOW, "overlapped ACQUIRE, event: signalled, TRUE, 16 bytes")                  \
    CASE(85, D, TRUE_NOW, "pending, fWait FALSE: FALSE, WSA_IO_INCOMPLETE")                        \
    CASE(86, D, TRUE_NOW, "pending, fWait TRUE: waits, then TRUE")                                 \
    CASE(87, D, TRUE_NOW, "pending: *lpcbBytesReturned unchanged")                                 \
    CASE(88, D, TRUE_NOW, "WSASocket without the flag: synchronous, event untouched")              \
    CASE(89, D, TRUE_NOW, "socket() makes overlapped sockets")                                     \
    CASE(90, D, TRUE_NOW, "a routine runs in an alertable wait only, once, 0xC0")                  \
    CASE(91, D, TRUE_NOW, "its arguments: (0,16,same,0), of ASSOCIATE (0,0,same,0)")               \
    CASE(92, D, TRUE_NOW, "with a routine hEvent is neither read nor changed")                     \
    CASE(93, D, TRUE_NOW, "a conflict found early: directly; found late: by completion")           \
    CASE(94, D, TRUE_NOW, "pending, closesocket: completes with 995, nothing reserved")            \
    CASE(95, D, TRUE_NOW, "pending, the issuing thread exits: cancelled")                          \
    CASE(96, D, TRUE_NOW, "failed completion: FALSE, its code, *lpcbTransfer unchanged")           \
    CASE(97, I, TRUE_NOW, "lpOverlapped NULL, routine set: synchronous, routine never called")     \
    CASE(98, D, TRUE_NOW, "pending, no valid event, fWait TRUE: FALSE, 6")                         \
    CASE(99, I, TRUE_NOW, "lpcbBytesReturned NULL, overlapped: WSAEFAULT")                         \
    CASE(100, I, TRUE_NOW, "input overwritten while pending: the original counts")                 \
    CASE(101, D, TRUE_NOW, "WSPIoctl fails: code in *lpErrno, the last error unchanged")           \
    CASE(102, D, TRUE_NOW, "lpThreadId overwritten while pending: still the right thread")         \
    CASE(103, D, TRUE_NOW, "the lpWSPIoctl slot: as WSAIoctl in cases 6, 34, 62")                  \
    CASE(104, D, TRUE_NOW, "WPUQueueApc with an invalid thread: WSAEFAULT")                        \
    CASE(105, I, TRUE_NOW, "lpErrno NULL, a failing call: SOCKET_ERROR, no crash")

#define PERSISTENT_AND_PROGRAMS(CASE)                                                              \
    CASE(106, D, TRUE_NOW, "administrator, Create: 0 and a token")                                 \
    CASE(107, D, TRUE_NOW, "non-administrator, Create and Delete: 5")                              \
    CASE(108, D, TRUE_NOW, "StartPort 0 or count 0: 87")                                           \
    CASE(109, D, TRUE_NOW, "Create(htons(65530), 10): 87")                                         \
    CASE(110, D, TRUE_NOW, "a port in use, Create: 32")                                            \
    CASE(111, D, TRUE_NOW, "Create equal, overlapping or containing: 32")                          \
    CASE(112, D, TRUE_NOW, "Lookup of the same pair: 0, the same token")                           \
    CASE(113, D, TRUE_NOW, "Lookup of (p,3) or (p+1,3): 1168")                                     \
    CASE(114, D, TRUE_NOW, "non-administrator, Lookup: 0")                                         \
    CASE(115, D, TRUE_NOW, "Delete, Delete again: 0, 1168")                                        \
    CASE(116, D, TRUE_NOW, "a TCP block, Lookup and Delete of UDP: 1168")                          \
    CASE(117, D, TRUE_NOW, "restart, Lookup: 0")                                                   \
    CASE(118, I, TRUE_NOW, "a token from before the restart that changed: WSAEINVAL")         \
    CASE(119, D, TRUE_NOW, "administrator in another process: associate, bind 0")                  \
    CASE(120, D, TRUE_NOW, "non-administrator, associate: WSAEACCES")                              \
    CASE(121, O, TRUE_NOW, "a plain bind of p: WSAEACCES")                                         \
    CASE(122, I, TRUE_NOW, "a live runtime reservation on p, Create: 32")                          \
    CASE(123, I, TRUE_NOW, "Token NULL: 87, nothing created")                                      \
    CASE(124, I, TRUE_NOW, "a bound consumer, Delete: 0; keeps its port, token invalid")           \
    CASE(125, I, TRUE_NOW, "StartPort in host order 5000 reserves 34835")                          \
    CASE(126, D, TRUE_NOW, "sample of a persistent reservation, 5000 20")                  \
    CASE(127, D, TRUE_NOW, "sample of ACQUIRE, 2 2 17 5000 20")                            \
    CASE(128, D, TRUE_NOW, "sample of RELEASE, 2 2 17 5000 20: bytes 16, then 0")          \
    CASE(129, D, TRUE_NOW, "sample of RELEASE, 2 1 6 0 20: a start that is not 0")         \
    CASE(130, D, TRUE_NOW, "two processes, 1000 random steps each: no port owned twice")

#define CASES(CASE)                                                                                \
    CONSTANTS_AND_ACQUIRE(CASE)                                                                    \
    ASSOCIATE_AND_PLAIN(CASE)                                                                      \
    RELEASE_AND_GENERAL(CASE)                                                                      \
    OVERLAPPED_AND_PROVIDER(CASE)                                                                  \
    PERSISTENT_AND_PROGRAMS(CASE)
