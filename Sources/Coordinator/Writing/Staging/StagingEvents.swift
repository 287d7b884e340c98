import UnderStores

/// What becomes of staged files. Called on the threads of the staging service, with no lock held.
package protocol StagingEvents: Sendable {
    /// The object has the file's content of now; `attributes` are the object's.
    func committed(_ file: StagedFile, _ attributes: ObjectAttributes)
    /// Somebody else has changed the object: the file is no longer its path's content, but among `conflicts`.
    func conflicted(_ file: StagedFile, _ reason: String)
    /// The content could not be uploaded now; it is kept and tried again.
    func failed(_ file: StagedFile, _ error: StoreError)
    /// The last writer has gone and all is committed: the object is read from the cache or the store again. The staged
    /// file takes no more writers (`StagingService.reopen` is false).
    func finished(_ file: StagedFile)
}
