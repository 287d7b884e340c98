import Coordination
import Platform

/// A session outlives its connection when a successor of the mount's process goes on with it.
extension ClientSession {
    /// Whether the mount's process has ended, and a successor is waited for.
    var isKept: Bool { state.withLock { $0.life == .kept } }

    /// Hands all that the session has to another of the same client, which `goesOn` with it, or ends. Nothing happens when it is
    /// another client's, or over.
    func surrender(to successor: ClientSession, _ client: ByteString, goesOn: Bool) {
        // Whoever may read the session's memory knows its client; nobody else's process gets it all the same.
        let mayHave = successor.session.peer.uid == session.peer.uid || successor.session.peer.uid == 0
        let isOurs = state.withLock { state in
            guard mayHave, state.client == client, state.volume != nil else { return false }
            guard state.life == .attached || state.life == .kept else { return false }
            state.life = .takenOver
            return true
        }
        guard isOurs else { return }
        // Its process is dead, but its socket may not have told yet.
        session.disconnect()
        services.locks.endWaits(session: number)
        guard goesOn, state.withLock({ $0.isResumable && !$0.hasDetached }) else { return end() }
        successor.adopt(self)
        services.sessions.remove(self)
    }

    private func adopt(_ former: ClientSession) {
        adopted.store(former.number, ordering: .releasing)
        let old = former.state.withLock { state in
            defer {
                state.device = nil
                state.memory = nil
            }
            return state
        }
        let inherited = leases.adopt(former.leases)
        notices.adopt(former.notices)
        state.withLock { state in
            state.volume = old.volume
            state.key = old.key
            state.device = old.device
            state.memory = old.memory
            state.isResumable = old.isResumable
            state.hasPassthrough = old.hasPassthrough
            state.opened = old.opened
            state.inherited = Set(inherited)
        }
    }

    /// Gives a mount whose process has ended to who asks for it.
    func handOver(_ mountPath: String, _ id: UInt64) throws(CoordinationError) {
        let peer = session.peer
        let waiting = services.sessions.mounts().last { mount in
            mount.isKept && mount.mountPath == mountPath && (mount.session.peer.uid == peer.uid || peer.uid == 0)
        }
        let (device, memory) = waiting?.state.withLock { ($0.device, $0.memory) } ?? (nil, nil)
        guard let device, let memory else {
            throw CoordinationError(.noSuchFileOrDirectory, "no mount at \(mountPath) waits for a process")
        }
        session.reply(to: id, .done(.init()), descriptors: [device, memory])
    }

    /// On the receive thread.
    func keepLeases(_ keep: WireKeepLeases) {
        let unneeded = state.withLock { state -> Set<UInt64> in
            state.inherited.subtract(keep.leases)
            guard keep.end else { return [] }
            defer { state.inherited = [] }
            return state.inherited
        }
        for lease in unneeded { leases.release(lease) }
    }

    /// Nobody has gone on with it in time.
    func endUnlessTakenOver() {
        let isOver = state.withLock { state in
            guard state.life == .kept else { return false }
            state.life = .ended
            return true
        }
        guard isOver else { return }
        services.logger.warning(
            "no process goes on with a mount whose process has ended; its FUSE connection is given up",
            metadata: ["mount": "\(mountPath)", "pid": "\(session.peer.pid)"])
        end()
    }
}
