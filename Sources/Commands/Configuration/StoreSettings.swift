import Coordination

/// The settings of one mount point, each checked and in its normal form.
package struct StoreSettings: Hashable, Sendable {
    package private(set) var values: [StoreSetting: String] = [:]

    package init() {}

    /// - Throws: `CommandFailure` (usage) without the setting's name: the caller knows what the user calls it.
    package mutating func set(
        _ setting: StoreSetting, _ text: String, relativeTo directory: String
    ) throws(CommandFailure) {
        values[setting] = try setting.normalize(text, relativeTo: directory)
    }

    package subscript(setting: StoreSetting) -> String? { values[setting] }

    /// Adds what `other` says; where both speak, `other` wins.
    package mutating func merge(_ other: StoreSettings) { values.merge(other.values) { $1 } }

    /// Settings that contradict each other or the store, as (setting, why).
    package func contradiction(for source: MountSource) -> (StoreSetting, String)? {
        if case .local = source, let setting = StoreSetting.allCases.first(where: { $0.isForS3 && values[$0] != nil }) {
            return (setting, "has no meaning for the local directory \(source): remove it")
        }
        if values[.anonymous] == "true" {
            for setting in [StoreSetting.profile, .credentialsFile] where values[setting] != nil {
                return (setting, "contradicts anonymous: remove one of them")
            }
        }
        if values[.kmsKeyID] != nil, values[.serverSideEncryption]?.hasPrefix("aws:kms") != true {
            return (.kmsKeyID, "needs serverSideEncryption aws:kms")
        }
        if values[.sseCustomerKeyFile] != nil, values[.serverSideEncryption] != nil {
            return (.serverSideEncryption, "contradicts sseCustomerKeyFile: remove one of them")
        }
        return nil
    }

    /// What is sent to the coordinator.
    func write(to wire: inout WireMountSpecification) {
        // Every value was checked by `normalize`, so that what is parsed here is what was parsed there.
        for (setting, value) in values {
            switch setting {
            case .endpoint: wire.endpoint = value
            case .region: wire.region = value
            case .profile: wire.profile = value
            case .credentialsFile: wire.credentialsFile = value
            case .anonymous: wire.anonymous = value == "true"
            case .pathStyle: wire.pathStyle = value
            case .requesterPays: wire.requesterPays = value == "true"
            case .caFile: wire.caFile = value
            case .proxy: wire.proxy = value
            case .sseCustomerKeyFile: wire.customerKeyFile = value
            case .insecureTLS: wire.insecureTls = value == "true"
            case .readOnly: wire.readOnly = value == "true"
            case .writeType: wire.writeType = value
            case .serverSideEncryption: wire.serverSideEncryption = value
            case .kmsKeyID: wire.kmsKeyID = value
            case .storageClass: wire.storageClass = value
            case .writeTypes: wire.writeTypes = StoreSetting.pairs(value)
            case .tags: wire.tags = StoreSetting.pairs(value)
            case .acl: wire.acl = value
            case .metadataTTL: if let ttl = try? TimeSpan.parse(value) { wire.metadataTtlMilliseconds = ttl }
            case .negativeTTL: if let ttl = try? TimeSpan.parse(value) { wire.negativeTtlMilliseconds = ttl }
            case .cache: wire.cache = value
            case .uid: if let uid = UInt32(value) { wire.uid = uid }
            case .gid: if let gid = UInt32(value) { wire.gid = gid }
            case .fileMode: if let mode = UInt32(value, radix: 8) { wire.fileMode = mode }
            case .dirMode: if let mode = UInt32(value, radix: 8) { wire.directoryMode = mode }
            }
        }
    }
}
