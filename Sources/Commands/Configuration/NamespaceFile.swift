/// The namespace file: which stores appear where in one mount (docs/configuration.md).
package enum NamespaceFile {
    private static let mountKeys = ["path", "source"] + StoreSetting.allCases.map(\.rawValue)

    /// - Throws: `CommandFailure`: noInput when the file cannot be read, configuration with line and field otherwise.
    package static func read(_ path: String) throws(CommandFailure) -> NamespaceSpecification {
        try namespace(YAMLField.document(ofFile: path))
    }

    /// - Parameter file: for the errors, and what relative paths are relative to.
    package static func parse(_ text: String, file: String) throws(CommandFailure) -> NamespaceSpecification {
        try namespace(YAMLField.document(text, file: file))
    }

    private static func namespace(_ document: YAMLField) throws(CommandFailure) -> NamespaceSpecification {
        let fields = try document.mapping(allowed: ["mounts"])
        guard let list = fields["mounts"] else {
            throw document.failure("has no mounts: start with \"mounts:\" and a list of path and source")
        }
        let directory = FilePaths.parent(of: FilePaths.absolute(document.file))
        var mounts: [MountEntry] = []
        var places: [String: YAMLField] = [:]
        for item in try list.sequence() {
            let (entry, place) = try mount(item, directory: directory)
            if let earlier = places.updateValue(place, forKey: entry.path) {
                throw place.failure("is the same mount point as \(earlier.name) (\(entry.path)): remove one of them")
            }
            mounts.append(entry)
        }
        guard !mounts.isEmpty else { throw list.failure("is empty: a namespace needs at least one mount point") }
        return NamespaceSpecification(mounts: mounts)
    }

    private static func mount(
        _ item: YAMLField, directory: String
    ) throws(CommandFailure) -> (entry: MountEntry, path: YAMLField) {
        var fields = try item.mapping(allowed: mountKeys)
        guard let pathField = fields.removeValue(forKey: "path") else {
            throw item.failure("has no path: say where in the namespace it appears, for instance path: /lake")
        }
        guard let sourceField = fields.removeValue(forKey: "source") else {
            throw item.failure("has no source: say what it shows, for instance source: s3://bucket/prefix")
        }
        let pathText = try pathField.text(expecting: "a path such as /lake")
        let path = try pathField.checked { () throws(CommandFailure) in
            try NamespaceSpecification.normalizeMountPath(pathText)
        }
        let sourceText = try sourceField.text(expecting: "a URL such as s3://bucket/prefix")
        let source = try sourceField.checked { () throws(CommandFailure) in
            try MountSource(sourceText, relativeTo: directory)
        }
        if case .local = source, !sourceText.hasPrefix("/"), !sourceText.contains("://") {
            throw sourceField.failure("\"\(sourceText)\" must be s3://bucket/prefix, file:///dir or an absolute path")
        }
        var settings = StoreSettings()
        // By key, so that of several errors the same one is reported each time.
        for (key, field) in fields.sorted(by: { $0.key < $1.key }) {
            guard let setting = StoreSetting(rawValue: key) else { continue }
            let text = try field.text(expecting: "a value")
            try field.checked { () throws(CommandFailure) in
                try settings.set(setting, text, relativeTo: directory)
            }
        }
        if let (setting, why) = settings.contradiction(for: source), let field = fields[setting.rawValue] {
            throw field.failure(why)
        }
        return (MountEntry(path: path, source: source, settings: settings), pathField)
    }
}
