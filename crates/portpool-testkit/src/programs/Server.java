import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

/** Answers every request with a word. */
class Server {
    public static void main(String[] arguments) throws Exception {
        InetAddress address = InetAddress.getByName(arguments[0]);
        try (ServerSocket server = new ServerSocket(Integer.parseInt(arguments[1]), 50, address)) {
            while (true) {
                try (Socket socket = server.accept()) {
                    InputStream input = socket.getInputStream();
                    for (int seen = 0; seen < 2; ) {
                        int next = input.read();
                        if (next < 0) {
                            break;
                        }
                        seen = next == '\n' ? seen + 1 : next == '\r' ? seen : 0;
                    }
                    socket.getOutputStream().write("HTTP/1.0 200 OK\r\n\r\nhello".getBytes());
                }
            }
        }
    }
}
