/// What this build calls itself.
package enum LarderVersion {
    package static let number = "0.1.0"
    /// Sent to peers, and shown by `larder --version`.
    package static let software = "larder \(number)"
}
