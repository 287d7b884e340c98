import Glibc
import Platform
import SystemPackage

/// A plain file in a tier that holds what is being written: `staging/<number>`. Its bytes count against the tier's quota
/// and are never evicted.
///
/// The file is written through descriptors that others have, so what it takes is known when `account` looks. Any thread;
/// all but `reserve` block on the disk.
package final class StagingFile: Sendable {
    private struct State {
        var descriptor: Descriptor?
        /// Bytes that the tier counts as used, and as reserved, for this file.
        var charged: UInt64 = 0
        var granted: UInt64 = 0
        /// Removed, or a cache file now: nothing is counted any more.
        var isGone = false
    }

    package let number: UInt64
    let tier: Tier
    let engine: Engine
    private let state: Lock<State>

    init(number: UInt64, tier: Tier, engine: Engine, descriptor: Descriptor?) {
        self.number = number
        self.tier = tier
        self.engine = engine
        state = Lock(State(descriptor: descriptor))
    }

    deinit { leave() }

    static func directory(of tier: Tier) -> String { "\(tier.configuration.path)/staging" }

    package var path: String { "\(Self.directory(of: tier))/\(number)" }
    /// Which tier has it, for ever: see `TierDirectory`.
    package var tierIdentity: UInt64 { tier.identity }
    /// Whether it is in a tier that a reboot empties.
    package var isVolatile: Bool { tier.configuration.kind == .ram }
    /// Bytes of a block of the cache: the unit of the checksums that `BlockCache.adopt` takes.
    package var blockSize: Int { engine.configuration.blockSize }

    /// Open for reading and writing. Throws ENOENT after `remove`, when nobody had it open.
    package func descriptor() throws(Errno) -> Descriptor {
        if let known = state.withLock({ $0.descriptor }) { return known }
        let opened = try Descriptor.open(path, O_RDWR)
        return state.withLock { state in
            if let known = state.descriptor { return known }
            state.descriptor = opened
            return opened
        }
    }

    /// Lets go of the descriptor until it is asked for again: many files may wait for their upload.
    package func closeDescriptor() {
        let descriptor = state.withLock { state in
            defer { state.descriptor = nil }
            return state.descriptor
        }
        withExtendedLifetime(descriptor) {}
    }

    /// fsync(2) of the file and of its name.
    package func synchronize() throws(Errno) {
        try descriptor().synchronize()
        try Descriptor.open(Self.directory(of: tier), O_RDONLY | O_DIRECTORY).synchronize()
    }

    // MARK: Space

    /// Counts what the file takes now.
    package func account() {
        guard let blocks = try? descriptor().status().blocks else { return }
        let (before, after, settled) = state.withLock { state -> (UInt64, UInt64, UInt64) in
            guard !state.isGone else { return (0, 0, 0) }
            let before = state.charged
            state.charged = blocks * 512
            let settled = min(state.granted, state.charged - min(before, state.charged))
            state.granted -= settled
            return (before, state.charged, settled)
        }
        tier.correct(from: before, to: after)
        if settled > 0 { tier.unreserve(settled, evict: engine.eviction(of: tier)) }
        if after > before { tier.drainIfHigh(evict: engine.eviction(of: tier)) }
    }

    /// Makes room for `bytes` more, waiting while clean data is evicted; false when that is not enough. What was reserved
    /// and is not used goes back with `account`, `unreserve` or the file.
    package func reserve(_ bytes: UInt64) async -> Bool {
        guard await tier.reserve(bytes, evict: engine.eviction(of: tier)) else { return false }
        let isGone = state.withLock { state in
            if !state.isGone { state.granted += bytes }
            return state.isGone
        }
        if isGone { tier.unreserve(bytes, evict: engine.eviction(of: tier)) }
        return true
    }

    /// Gives back what was reserved and not used.
    package func unreserve() {
        let granted = state.withLock { state in
            defer { state.granted = 0 }
            return state.granted
        }
        if granted > 0 { tier.unreserve(granted, evict: engine.eviction(of: tier)) }
    }

    /// Removes the name; who has the file open keeps it, and its bytes count until this object goes.
    package func remove() {
        removeDescription()
        unlink(path)
    }

    /// Bytes that the tier counts for the file.
    package var chargedBytes: UInt64 { state.withLock { $0.charged } }

    /// Nothing is counted for this file any more: it has been removed, and nobody needs it.
    package func leave() {
        let (charged, granted) = state.withLock { state -> (UInt64, UInt64) in
            defer {
                state.charged = 0
                state.granted = 0
                state.isGone = true
            }
            return (state.charged, state.granted)
        }
        guard charged > 0 || granted > 0 else { return }
        tier.correct(from: charged, to: 0)
        tier.unreserve(granted, evict: engine.eviction(of: tier))
    }
}

extension Tier {
    /// Has clean data evicted when a file that is not a cache file has pushed the level over the mark.
    fileprivate func drainIfHigh(evict: @escaping @Sendable () -> Void) {
        if state.withLock({ $0.used + $0.reserved > highMark }) { startEviction(evict) }
    }
}
