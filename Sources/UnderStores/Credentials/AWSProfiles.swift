/// The profiles of `~/.aws/config` and `~/.aws/credentials`, merged: what the credentials file says counts.
package struct AWSProfiles: Sendable {
    private var profiles: [String: INIDocument.Section] = [:]
    /// Endpoints per service, by the name of a `[services NAME]` section.
    private var services: [String: INIDocument.Section] = [:]
    /// The files that were looked at, for messages.
    package let files: String

    /// Reads both files; one that does not exist is as empty. Blocks.
    ///
    /// - Throws: `.accessDenied` for a file that cannot be read, `.invalid` for one that is malformed, with its line.
    package init(in surroundings: AWSSurroundings) throws(StoreError) {
        let config = surroundings["AWS_CONFIG_FILE"] ?? "~/.aws/config"
        let credentials = surroundings["AWS_SHARED_CREDENTIALS_FILE"] ?? "~/.aws/credentials"
        files = "\(config), \(credentials)"
        for section in try Self.sections(of: config, in: surroundings) {
            let words = section.name.split(separator: " ", maxSplits: 1).map(String.init)
            if section.name == "default" {
                // `[profile default]` counts before `[default]`.
                let explicit = profiles["default"]?.properties ?? [:]
                profiles["default", default: section].properties = section.properties.merging(explicit) { $1 }
            } else if words.count == 2, words[0] == "profile" {
                merge(section, into: words[1])
            } else if words.count == 2, words[0] == "services" {
                services[words[1]] = section
            }
        }
        for section in try Self.sections(of: credentials, in: surroundings) { merge(section, into: section.name) }
    }

    package subscript(_ name: String) -> INIDocument.Section? { profiles[name] }

    /// The endpoint that a profile sets for a service (`s3`, `sts`), or for all.
    func endpoint(of service: String, profile name: String) -> String? {
        guard let profile = profiles[name] else { return nil }
        let block = profile["services"].flatMap { services[$0] }?.properties[service]
        return block?.nested["endpoint_url"] ?? profile["endpoint_url"]
    }

    private mutating func merge(_ section: INIDocument.Section, into name: String) {
        profiles[name, default: .init(name: name, properties: [:])].properties.merge(section.properties) { $1 }
    }

    private static func sections(
        of path: String, in surroundings: AWSSurroundings
    ) throws(StoreError) -> [INIDocument.Section] {
        guard let bytes = try surroundings.contents(of: path) else { return [] }
        do throws(INIDocument.Malformed) {
            return try INIDocument(bytes).sections
        } catch {
            throw StoreError(.invalid, "\(path), \(error)")
        }
    }
}
