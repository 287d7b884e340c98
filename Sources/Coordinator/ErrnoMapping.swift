import Coordination
import SystemPackage
import UnderStores

extension CoordinationError {
    /// What an application is told of a store's error, outside of reads.
    init(_ error: StoreError) {
        let errno: Errno =
            switch error.kind {
            case .notFound: .noSuchFileOrDirectory
            case .notDirectory: .notDirectory
            case .versionChanged: .staleNFSFileHandle
            case .accessDenied: .permissionDenied
            case .unsupported: .notSupported
            case .cancelled: .interrupted
            case .quotaExceeded: .noSpace
            case .tooLarge: .fileTooLarge
            case .nameTooLong: .fileNameTooLong
            // EINVAL would blame the application for the mount's configuration.
            case .invalid, .unavailable, .protocolViolation, .sink, .inputOutput, .checksumMismatch: .ioError
            }
        self.init(errno, error.message)
    }

    /// What a reader of an open file is told: an object that is gone is a stale handle, not a missing name.
    init(reading error: any Error) {
        switch error {
        case let error as StoreError where error.kind == .notFound:
            self.init(.staleNFSFileHandle, error.message)
        case let error as StoreError: self.init(error)
        case let error as CoordinationError: self = error
        case let error as Errno: self.init(error, "\(error)")
        case is CancellationError: self.init(.interrupted, "the request was cancelled")
        default: self.init(.ioError, "\(error)")
        }
    }
}
