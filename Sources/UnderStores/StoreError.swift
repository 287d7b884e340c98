/// Why a store could not do what was asked, classified where the error was born.
package struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// No such object, directory or bucket.
        case notFound
        case notDirectory
        /// The object no longer has the expected version.
        case versionChanged
        /// Credentials missing, wrong or expired, or the action is not allowed.
        case accessDenied
        /// The store refused the request as malformed, or the configuration cannot work (bad endpoint, wrong region).
        case invalid
        /// The store does not have this operation.
        case unsupported
        /// The store cannot be reached or keeps failing, after retries.
        case unavailable
        /// The store's answer breaks its protocol: truncated, contradictory, or without progress.
        case protocolViolation
        /// The reader of the bytes failed, not the store.
        case sink
        /// The calling task was cancelled.
        case cancelled
        /// A local file or disk failed (EIO).
        case inputOutput
        /// The store received other bytes than were meant, also when they were sent again.
        case checksumMismatch
        /// The store, or the caller's share of it, is full.
        case quotaExceeded
        /// The object would be larger than the store takes.
        case tooLarge
        /// The key would be longer than the store takes, or a part of it longer than POSIX can name.
        case nameTooLong
    }

    package let kind: Kind
    /// One line without secrets: what failed, on what, and what to do.
    package let message: String
    /// Of a change that failed: the version of the object that it has made all the same, of other bytes than were meant.
    package var made: ObjectVersion?

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { message }
}
