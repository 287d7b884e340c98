/// How staged files are uploaded.
package struct StagingConfiguration: Sendable {
    package var parts = UploadPartLayout()
    /// Parts and whole files of 16 MiB or more that are sent at once, over all stores; smaller ones take their share.
    package var parallelUploads = 8
    /// Files that are uploaded at once without somebody waiting.
    package var backgroundFiles = 8
    /// What the node has acknowledged is uploaded when no other file has been for so long, and at the latest after
    /// `longestLinger`: what is renamed or removed meanwhile is uploaded under its new name or never, and who writes many
    /// files does not share the processors with their uploads.
    package var linger: Duration = .zero
    package var longestLinger: Duration = .zero
    /// How soon a growing file is looked at again, and one that does not grow.
    package var shortestPoll: Duration = .milliseconds(50)
    package var longestPoll: Duration = .seconds(3)
    /// How long a file of the coordinator's predecessor waits for the mount that wrote it.
    package var grace: Duration = .seconds(60)
    /// The first and the longest pause before a failed upload is tried again.
    package var firstRetry: Duration = .seconds(1)
    package var longestRetry: Duration = .seconds(60)
    /// Files of more bytes remember their parts, so that those that do not change are copied by the store.
    package var largeFile: UInt64 = 64 << 20

    package init() {}
}
