import CFuse
import Coordination
import Glibc
import SystemPackage

/// One request of the kernel, which must be answered exactly once: each reply consumes it, and one that is dropped is
/// answered with EIO.
///
/// Replies return false when the kernel no longer waits (the caller was interrupted): what the reply would have handed
/// over is then to be undone.
struct FuseRequest: ~Copyable, @unchecked Sendable {
    private let raw: fuse_req_t

    init(_ raw: fuse_req_t) { self.raw = raw }

    deinit { fuse_reply_err(raw, EIO) }

    /// Gives up the duty to answer to the caller.
    consuming func take() -> fuse_req_t {
        let raw = raw
        discard self
        return raw
    }

    consuming func fail(_ error: Errno) {
        fuse_reply_err(raw, ErrnoMapping.number(for: error))
        discard self
    }

    consuming func succeed() {
        fuse_reply_err(raw, 0)
        discard self
    }

    consuming func forgetReply() {
        fuse_reply_none(raw)
        discard self
    }

    @discardableResult
    consuming func reply(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let result = fuse_reply_buf(raw, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
        discard self
        return result == 0
    }

    consuming func reply(entry: fuse_entry_param) {
        var entry = entry
        fuse_reply_entry(raw, &entry)
        discard self
    }

    consuming func reply(attributes: stat, timeout: Double) {
        var attributes = attributes
        fuse_reply_attr(raw, &attributes, timeout)
        discard self
    }

    consuming func reply(link: UnsafePointer<CChar>) {
        fuse_reply_readlink(raw, link)
        discard self
    }

    consuming func reply(open: fuse_file_info) -> Bool {
        var open = open
        let result = fuse_reply_open(raw, &open)
        discard self
        return result == 0
    }

    consuming func reply(space: statvfs) {
        var space = space
        fuse_reply_statfs(raw, &space)
        discard self
    }

    consuming func reply(written count: Int) {
        fuse_reply_write(raw, count)
        discard self
    }

    consuming func reply(place: UInt64) {
        fuse_reply_lseek(raw, off_t(clamping: place))
        discard self
    }

    consuming func reply(lock: flock) {
        var lock = lock
        fuse_reply_lock(raw, &lock)
        discard self
    }

    /// Answers CREATE. False: the kernel will send no release.
    consuming func reply(created entry: fuse_entry_param, _ open: larder_fuse_open_out) -> Bool {
        var entry = entry
        var open = open
        let result = larder_fuse_reply_create(raw, &entry, &open)
        discard self
        return result == 0
    }

    /// Answers OPEN. False: the caller was interrupted, and the kernel will send no release.
    consuming func reply(opened open: larder_fuse_open_out) -> Bool {
        let raw = take()
        return withUnsafeBytes(of: open) { FuseRequest(raw).reply($0) }
    }

    /// The size of an extended attribute, for a caller that asked with an empty buffer.
    consuming func reply(attributeSize: Int) {
        fuse_reply_xattr(raw, attributeSize)
        discard self
    }

    /// For building directory entries, which libfuse lays out for this request's protocol version.
    borrowing func withRaw<Result>(_ body: (fuse_req_t) -> Result) -> Result { body(raw) }

    /// The thread that waits, as this process's pid namespace names it; 0 when it does not.
    var callerThread: Int32 { fuse_req_ctx(raw).pointee.pid }
}

extension fuse_req_t {
    /// Who asks.
    var caller: WireCaller {
        let context = fuse_req_ctx(self).pointee
        var caller = WireCaller()
        caller.uid = context.uid
        caller.gid = context.gid
        return caller
    }
}
