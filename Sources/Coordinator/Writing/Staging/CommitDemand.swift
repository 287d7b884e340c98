/// Who asks for a commit, and so what it waits for.
package enum CommitDemand: Sendable {
    /// close(2).
    case close
    /// The last writer has gone; nobody waits.
    case release
    /// fsync(2): what is acknowledged survives a crash of the machine.
    case synchronize
    /// Nobody waits: the object is made whatever the write type, but for `mustCache`.
    case background
}
