"""A TCP proxy between a client and a server that a test may turn against both."""

import socket
import struct
import threading


class TcpProxy:
    """Forwards every connection to one port until told to fail.

    Attributes:
        port: where it listens, on the loopback.
        reset_after: after so many bytes towards the client or from it, a connection is reset.
        is_mute: take everything and forward nothing, as a network that swallows packets.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.reset_after: int | None = None
        self.is_mute = False
        self.resets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            told = [0]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(*ends, told), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, told: list[int]) -> None:
        try:
            while content := source.recv(4096):
                told[0] += len(content)
                if self.reset_after is not None and told[0] > self.reset_after:
                    self.resets += 1
                    break
                if not self.is_mute:
                    sink.sendall(content)
        except OSError:
            pass
        for end in (source, sink):
            try:
                # Without lingering, a close is a reset.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()
            except OSError:
                continue
