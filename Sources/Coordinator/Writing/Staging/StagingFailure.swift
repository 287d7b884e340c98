import Coordination
import LMDB
import Platform
import SystemPackage
import UnderStores

/// Why a commit did not come about.
enum StagingFailure: Error {
    case store(StoreError)
    /// The staged file could not be read.
    case disk(Errno)
    case journal(LMDBError)
    /// The file was changed meanwhile: try again.
    case changed
    /// The store does not have the upload any more: begin another.
    case uploadGone
    /// The service ends; the next one goes on.
    case closed

    /// As an error of a store, for whoever shows it.
    func storeError(_ path: ByteString) -> StoreError {
        switch self {
        case .store(let error): error
        case .disk(let errno): StoreError(.inputOutput, "the staged file of \(path) cannot be read: \(errno)")
        case .journal(let error): StoreError(.inputOutput, "the journal cannot be written for \(path): \(error)")
        case .changed: StoreError(.unavailable, "\(path) is written while it is uploaded; close it")
        case .uploadGone: StoreError(.unavailable, "the store drops the upload of \(path) again and again")
        case .closed: StoreError(.cancelled, "the coordinator ends; \(path) is uploaded when it is back")
        }
    }
}

extension CoordinationError {
    /// What close(2) and fsync(2) are told.
    init(_ failure: StagingFailure, _ path: ByteString) {
        switch failure {
        case .disk(let errno): self.init(errno, failure.storeError(path).message)
        case .journal(let error):
            self.init(
                error.isFull || error.code == Errno.noSpace.rawValue ? .noSpace : .ioError,
                failure.storeError(path).message)
        case .store(let error) where error.kind == .notFound:
            // The bucket: ENOENT of close(2) would say that the file never was.
            self.init(.ioError, error.message)
        default: self.init(failure.storeError(path))
        }
    }
}
