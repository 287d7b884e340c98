import Platform
import UnderStores

/// A file with changes that its store does not have yet, for `larder status`.
package struct PendingFile: Hashable, Sendable {
    package enum State: String, Hashable, Sendable {
        /// Open for writing.
        case writing
        /// Kept on the node on purpose, or uploaded soon.
        case waiting
        case uploading
        /// The last upload failed; it is tried again.
        case failed
    }

    package var number: UInt64
    package var store: StoreIdentity
    package var path: ByteString
    package var state: State
    package var bytes: UInt64
    package var uploadedBytes: UInt64
    package var lastError: String?
    package var ageSeconds: UInt64
}

extension StagingService {
    /// What the stores do not have yet, oldest first. Blocks on the disk.
    package var pending: [PendingFile] {
        let now = FileTime.now()
        return files.filter(\.isDirty).map { file in
            let bytes = (try? file.status().size) ?? 0
            return file.state.withLock { state in
                let kind: PendingFile.State =
                    if state.flight != nil {
                        .uploading
                    } else if state.lastError != nil {
                        .failed
                    } else {
                        state.isReleased || state.acknowledged != nil ? .waiting : .writing
                    }
                return PendingFile(
                    number: file.number, store: state.target.store.identity, path: state.target.path, state: kind,
                    bytes: bytes, uploadedBytes: state.upload?.uploadedBytes ?? 0,
                    lastError: state.lastError?.message,
                    ageSeconds: UInt64(max(0, now.seconds - file.created.seconds)))
            }
        }
    }
}
