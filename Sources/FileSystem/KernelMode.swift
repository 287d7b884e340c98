/// How the kernel serves an open. Opens of one inode that exist at a time must agree (fs/fuse/iomode.c): either all keep
/// pages, or all name one backing file. Direct I/O agrees with pages, and with a backing file that it names too.
package enum KernelMode: Hashable, Sendable {
    /// With the kernel's pages, which all opens of the same content share.
    case cached(FileContent)
    case passthrough(backingID: Int32)
    /// Each read and write comes here.
    case direct
    /// The same while others pass through to this backing file, which must stay registered for so long.
    case directBeside(backingID: Int32)
}

/// What an open shows, as far as opens that show the same may share pages.
package enum FileContent: Hashable, Sendable {
    case backing(Int32)
    case staged(UInt64)
    /// The file of a local store, whatever is in it.
    case source
    /// One version, as one Open was answered.
    case version(lease: UInt64, generation: UInt64)
}

extension DataPath {
    var content: FileContent {
        switch kind {
        case .passthrough: .backing(backingID)
        case .staged: .staged(stagedNumber)
        case .source: .source
        case .whole, .mapped, .inline, .readThrough: .version(lease: lease, generation: generation)
        }
    }
}

extension KernelMode {
    init(_ path: DataPath) {
        switch path.kind {
        case .passthrough: self = .passthrough(backingID: path.backingID)
        case .staged where path.isPassthrough: self = .passthrough(backingID: path.backingID)
        case .staged where path.isDirect: self = .direct
        default: self = .cached(path.content)
        }
    }
}
