import Coordination
import Platform
import Synchronization
import SystemPackage

/// One open of a file: what belongs to the handle and not to the inode.
package final class OpenFile: @unchecked Sendable {
    package let inode: OpenInode
    /// The pages that the kernel has of this inode are still right for this open.
    package let keepsKernelCache: Bool
    package let kernelMode: KernelMode
    /// Each read had better come here, past the kernel's pages: the first pass over a long object finds none there, and
    /// would leave all of it in memory twice. Later opens pass through, or find pages worth keeping.
    package let isFirstPass: Bool

    /// Bytes that no tier could take, as a memory file; the latest answer of this handle.
    struct SideBuffer {
        let file: Descriptor
        let range: Range<UInt64>
    }

    /// As the kernel has it; 0 before it has one.
    let handle = Atomic<UInt64>(0)
    let window = Lock(PrefetchWindow())
    private let side = Lock<SideBuffer?>(nil)
    private let hasSide = Atomic<Bool>(false)
    /// The window's trigger ranges as pairs of start and end, for the read path, which takes no lock.
    private let triggers: UnsafeMutablePointer<Atomic<UInt64>>
    private static let triggerWords = 2 * PrefetchWindow.maximumStreams

    private let lastMissEnd = Atomic<UInt64>(0)

    /// Who has asked for locks through this open file, as the kernel numbers them.
    struct LockOwner: Hashable {
        let number: UInt64
        /// Of flock(2).
        let wholeFile: Bool
    }
    private let owners = Lock<Set<LockOwner>>([])
    private let hasOwners = Atomic<Bool>(false)

    /// - Parameter shared: others have the inode open: what the kernel read for them is right, unless the file can
    ///   change.
    init(_ inode: OpenInode, shared: Bool, _ kernelMode: KernelMode) {
        self.inode = inode
        self.kernelMode = kernelMode
        keepsKernelCache = inode.withPath { $0.keepCache || (shared && $0.kind != .source) }
        isFirstPass = inode.withPath { $0.isFirstPass }
        triggers = .allocate(capacity: Self.triggerWords)
        for index in 0..<Self.triggerWords { (triggers + index).initialize(to: Atomic(0)) }
    }

    deinit {
        triggers.deinitialize(count: Self.triggerWords)
        triggers.deallocate()
    }

    /// Who has asked for locks. No lock is taken when nobody has, as most.
    var lockOwners: Set<LockOwner> { hasOwners.load(ordering: .acquiring) ? owners.withLock { $0 } : [] }

    func noteOwner(_ number: UInt64, wholeFile: Bool) {
        owners.withLock { _ = $0.insert(LockOwner(number: number, wholeFile: wholeFile)) }
        hasOwners.store(true, ordering: .releasing)
    }

    /// Whether the prefetch window wants to hear of this read.
    @inline(__always)
    func isTriggered(_ offset: UInt64, _ count: Int) -> Bool {
        var index = 0
        while index < Self.triggerWords {
            if offset < triggers[index + 1].load(ordering: .relaxed),
                offset + UInt64(count) > triggers[index].load(ordering: .relaxed)
            {
                return true
            }
            index += 2
        }
        return false
    }

    /// A race between two threads leaves triggers of the earlier state: a prefetch comes a little early or late.
    func setTriggers(_ ranges: [Range<UInt64>]) {
        for stream in 0..<PrefetchWindow.maximumStreams {
            let range = stream < ranges.count ? ranges[stream] : 0..<0
            triggers[2 * stream].store(range.lowerBound, ordering: .relaxed)
            triggers[2 * stream + 1].store(range.upperBound, ordering: .relaxed)
        }
    }

    /// Whether a miss at `offset` goes on where the one before it ended.
    func followsLastMiss(_ offset: UInt64, _ end: UInt64) -> Bool {
        lastMissEnd.exchange(end, ordering: .relaxed) == offset && offset > 0
    }

    func keep(_ buffer: SideBuffer) {
        side.withLock { $0 = buffer }
        hasSide.store(true, ordering: .releasing)
    }

    /// Reads from the side buffer when it has all of `buffer.count` bytes.
    func readSide(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard hasSide.load(ordering: .acquiring), let held = side.withLock({ $0 }) else { return nil }
        guard held.range.lowerBound <= offset, offset + UInt64(buffer.count) <= held.range.upperBound else {
            return nil
        }
        do throws(Errno) {
            let count = try held.file.read(into: buffer, at: offset - held.range.lowerBound)
            return count == buffer.count ? count : nil
        } catch { return nil }
    }
}
