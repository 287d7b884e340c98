import Glibc
import Platform
import SystemPackage
import Testing

@Suite("PacketSocket")
struct PacketSocketTests {
    private func send(_ bytes: [UInt8], on socket: PacketSocket, _ descriptors: [Descriptor] = []) throws {
        try bytes.withUnsafeBytes { try socket.send($0, descriptors: descriptors) }
    }

    private func receive(
        from socket: PacketSocket, capacity: Int = PacketSocket.maximumMessage
    ) throws -> (bytes: [UInt8], descriptors: [Descriptor]) {
        var buffer = [UInt8](repeating: 0, count: capacity)
        let (count, descriptors) = try buffer.withUnsafeMutableBytes { try socket.receive(into: $0) }
        return (Array(buffer.prefix(count)), descriptors)
    }

    @Test("messages come whole and in order, up to the longest")
    func messages() throws {
        let (left, right) = try PacketSocket.pair()
        let messages = [[1], [2, 3], Array(repeating: 9, count: PacketSocket.maximumMessage)] as [[UInt8]]
        for message in messages { try send(message, on: left) }
        for message in messages { #expect(try receive(from: right).bytes == message) }
        try send([7], on: right)
        #expect(try receive(from: left).bytes == [7])
    }

    @Test("descriptors arrive as the same files, close-on-exec")
    func descriptors() throws {
        let (left, right) = try PacketSocket.pair()
        let files = try (0..<PacketSocket.maximumDescriptors).map { try Descriptor.memory(named: "file-\($0)") }
        try send([1], on: left, files)
        let (bytes, received) = try receive(from: right)
        #expect(bytes == [1] && received.count == files.count)
        for (sent, got) in zip(files, received) {
            #expect(try sent.status().inode == got.status().inode)
            #expect(fcntl(got.raw, F_GETFD) & FD_CLOEXEC != 0)
        }
    }

    @Test("a message longer than the buffer is EMSGSIZE, and the next one is whole")
    func tooLong() throws {
        let (left, right) = try PacketSocket.pair()
        try send(Array(repeating: 1, count: 100), on: left)
        try send([2], on: left)
        #expect(throws: Errno(rawValue: EMSGSIZE)) { try receive(from: right, capacity: 99) }
        #expect(try receive(from: right, capacity: 99).bytes == [2])
    }

    private func isAtEnd(_ reading: Descriptor) -> Bool {
        var item = pollfd(fd: reading.raw, events: Int16(POLLIN), revents: 0)
        return poll(&item, 1, 0) == 1 && item.revents & Int16(POLLHUP) != 0
    }

    @Test("descriptors of a refused message are closed")
    func refusedDescriptors() throws {
        let (left, right) = try PacketSocket.pair()
        let reading = try sendWritingEnd(on: left)
        #expect(!isAtEnd(reading), "the message in flight holds the descriptor")
        #expect(throws: Errno(rawValue: EMSGSIZE)) { try receive(from: right, capacity: 10) }
        #expect(isAtEnd(reading))
    }

    /// Sends the writing end of a pipe, keeps none, and returns the reading end.
    private func sendWritingEnd(on socket: PacketSocket) throws -> Descriptor {
        let (reading, writing) = try Descriptor.pipe()
        try send(Array(repeating: 1, count: 100), on: socket, [writing])
        return reading
    }

    @Test("the peer of a pair and of a connection is this process")
    func peers() throws {
        let (left, _) = try PacketSocket.pair()
        #expect(try left.peer() == PeerCredentials(pid: getpid(), uid: geteuid(), gid: getegid()))
        let path = "/tmp/larder-socket-\(getpid())-\(MonotonicClock.now())"
        let listener = try PacketListener(path: path)
        defer { listener.close() }
        let client = try PacketSocket.connect(to: path)
        let server = try listener.accept()
        #expect(try server.peer().pid == getpid() && client.peer().pid == getpid())
        try send([1, 2], on: client)
        #expect(try receive(from: server).bytes == [1, 2])
        #expect(throws: Errno(rawValue: EADDRINUSE)) { try PacketListener(path: path) }
    }

    @Test("a path that is too long or has no listener is an error")
    func badPaths() throws {
        #expect(throws: Errno(rawValue: ENAMETOOLONG)) {
            try PacketListener(path: "/tmp/" + String(repeating: "x", count: 108))
        }
        #expect(throws: Errno(rawValue: ENOENT)) { try PacketSocket.connect(to: "/tmp/larder-no-such-socket") }
    }

    @Test("shutdown wakes a thread that waits for a message")
    func shutdownWakes() throws {
        let (left, right) = try PacketSocket.pair()
        let ended = OneShot<Int>()
        startThread(named: "receiver") {
            var buffer = [UInt8](repeating: 0, count: 16)
            let count = try? buffer.withUnsafeMutableBytes { try right.receive(into: $0).count }
            ended.set(count ?? -1)
        }
        right.shutdown()
        #expect(ended.wait(timeout: .seconds(120)) == 0)
        #expect(throws: Errno(rawValue: EPIPE)) { try send([1], on: left) }
    }

    @Test("a peer that is gone ends receiving, and sending is EPIPE without a signal")
    func closedPeer() throws {
        let left = try halfOfPair()
        #expect(try receive(from: left).bytes == [5])
        #expect(try receive(from: left).bytes.isEmpty)
        #expect(throws: Errno(rawValue: EPIPE)) { try send([1], on: left) }
    }

    /// One end of a pair whose other end has sent a message and is gone.
    private func halfOfPair() throws -> PacketSocket {
        let (left, right) = try PacketSocket.pair()
        try send([5], on: right)
        return left
    }

    @Test("closing a listener wakes a thread in accept and removes the file")
    func closedListener() throws {
        let path = "/tmp/larder-socket-\(getpid())-\(MonotonicClock.now())"
        let listener = try PacketListener(path: path)
        let ended = OneShot<CInt>()
        startThread(named: "acceptor") {
            do throws(Errno) {
                _ = try listener.accept()
                ended.set(0)
            } catch { ended.set(error.rawValue) }
        }
        listener.close()
        #expect(ended.wait(timeout: .seconds(120)) == EINVAL)
        #expect(access(path, F_OK) != 0)
    }
}
