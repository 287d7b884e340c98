/// What to mount where.
package struct FuseMountOptions: Sendable {
    /// An existing directory; it is resolved to an absolute path without symbolic links.
    package var mountPoint: String
    /// Shown as the source in mount tables: s3://bucket/prefix.
    package var source: String
    /// Other users than the mounting one may look in. A mount by root always allows it.
    package var allowOther: Bool
    package var readOnly: Bool
    /// Mount over a directory that is not empty.
    package var nonEmpty: Bool
    /// `readOnly`, or one of the further options says so.
    var isReadOnly: Bool { readOnly || extra.contains("ro") }
    /// Further mount options, as in fstab: nosuid, noexec, noatime, context=….
    package var extra: [String]

    package init(
        mountPoint: String, source: String, allowOther: Bool = false, readOnly: Bool = true, nonEmpty: Bool = false,
        extra: [String] = []
    ) {
        self.mountPoint = mountPoint
        self.source = source
        self.allowOther = allowOther
        self.readOnly = readOnly
        self.nonEmpty = nonEmpty
        self.extra = extra
    }
}
