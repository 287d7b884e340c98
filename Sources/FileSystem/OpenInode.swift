import BlockMaps
import Coordination
import Platform
import Synchronization
import SystemPackage

/// An inode while the kernel has it open: one grant, and the opens that share it.
///
/// The kernel refuses to mix passthrough and cached opens of one inode, and two backing ids for it, so the way of
/// reading belongs to the grant and not to the open.
package final class OpenInode: @unchecked Sendable {
    /// What an open was asked for: readers and writers have leases of their own.
    package enum Access: Sendable { case reading, writing }

    package let number: UInt64
    package let access: Access
    package let content: FileContent
    let kernelMode: KernelMode
    /// Of a grant to write.
    let writing: WriteState?

    // Every path that this inode has had; the last is the current one. A new path comes only after a reconnect, so few
    // are kept, and none is freed while a reader may still use it through `current`.
    private let paths: Lock<[DataPath]>
    private let current: Atomic<UnsafeMutableRawPointer>
    /// The 64 equal segments of the file that were read since the last access report, one bit each.
    private let touched = Atomic<UInt64>(0)
    private let segmentShift: UInt64
    let reopening = Lock<[@Sendable (Errno?) -> Void]?>(nil)
    private let retired = Atomic<Bool>(false)
    /// The coordinator no longer knows this version; what its descriptors have can still be read.
    let isOrphaned = Atomic<Bool>(false)
    /// Its record in the session's memory, once a handle of the kernel's names it.
    let record = Lock<NotedGrant?>(nil)

    init(_ number: UInt64, _ path: DataPath, _ access: Access) {
        self.number = number
        self.access = access
        content = path.content
        kernelMode = KernelMode(path)
        writing = access == .writing ? WriteState(path) : nil
        paths = Lock([path])
        current = Atomic(Unmanaged.passUnretained(path).toOpaque())
        // At least one block of 128 KiB per segment, a power of two, and 64 segments hold the file.
        var shift: UInt64 = 17
        while path.size >> shift >= 64 { shift += 1 }
        segmentShift = shift
    }

    /// Calls `body` with the current path, without reference counting.
    @inline(__always)
    func withPath<Result>(_ body: (DataPath) -> Result) -> Result {
        Unmanaged<DataPath>.fromOpaque(current.load(ordering: .acquiring))._withUnsafeGuaranteedRef(body)
    }

    var path: DataPath { withPath { $0 } }

    func replacePath(_ path: DataPath) {
        paths.withLock { paths in
            paths.append(path)
            current.store(Unmanaged.passUnretained(path).toOpaque(), ordering: .releasing)
        }
        noteChange()
    }

    @inline(__always)
    func touch(_ offset: UInt64, _ count: Int) {
        guard count > 0 else { return }
        let first = offset >> segmentShift
        let last = (offset + UInt64(count) - 1) >> segmentShift
        guard last < 64 else { return }
        let bits = (UInt64.max >> (63 - (last - first))) << first
        // The load spares hot files the exclusive cache line.
        if touched.load(ordering: .relaxed) & bits != bits { touched.bitwiseOr(bits, ordering: .relaxed) }
    }

    /// The parts read since the last call.
    func takeTouched() -> [Range<UInt64>] {
        guard touched.load(ordering: .relaxed) != 0 else { return [] }
        return SegmentBits.ranges(touched.exchange(0, ordering: .relaxed), shift: segmentShift, size: path.size)
    }

    /// As the open was answered.
    package var attributes: WireAttributes { withPath { $0.attributes } }
    /// New readers see something else.
    var isRetired: Bool { retired.load(ordering: .acquiring) }
    func retire() {
        retired.store(true, ordering: .releasing)
        noteChange()
    }

    /// The kernel reads and writes by itself.
    var isPassthrough: Bool { if case .passthrough = kernelMode { true } else { false } }
    /// How `user.larder.mode` and `larder status` call the way of reading.
    package var mode: String { withPath { $0.isPassthrough ? DataPath.Kind.passthrough.rawValue : $0.kind.rawValue } }
}

/// Runs of bits as byte ranges.
enum SegmentBits {
    static func ranges(_ bits: UInt64, shift: UInt64, size: UInt64) -> [Range<UInt64>] {
        var rest = bits
        var ranges: [Range<UInt64>] = []
        while rest != 0 {
            let start = UInt64(rest.trailingZeroBitCount)
            let length = UInt64((~(rest >> start)).trailingZeroBitCount)
            rest = start + length >= 64 ? 0 : (rest >> (start + length)) << (start + length)
            let lower = start << shift
            let upper = min((start + length) << shift, size)
            if lower < upper { ranges.append(lower..<upper) }
        }
        return ranges
    }
}
