/// Something that a store for objects should do by itself, and whether it does.
package struct StoreRequirement: Hashable, Sendable {
    /// What it is, in the words of S3's documentation.
    package let name: String
    package let isMet: Bool
    /// What Larder does where the store does not.
    package let otherwise: String

    package init(_ name: String, _ isMet: Bool, otherwise: String) {
        self.name = name
        self.isMet = isMet
        self.otherwise = otherwise
    }
}

extension EnforcedConditions {
    /// The conditions as requirements; none while they are not known.
    package var requirements: [StoreRequirement] {
        guard isKnown else { return [] }
        let looks = "Larder looks before and after; who writes at that moment may be overwritten"
        return [
            StoreRequirement("PUT if absent (If-None-Match)", putAbsent, otherwise: looks),
            StoreRequirement("PUT if unchanged (If-Match)", putVersion, otherwise: looks),
            StoreRequirement("CompleteMultipartUpload if absent (If-None-Match)", completeAbsent, otherwise: looks),
            StoreRequirement("CompleteMultipartUpload if unchanged (If-Match)", completeVersion, otherwise: looks),
        ]
    }
}
