/// One instance for all tests of a process, made when the first asks for it.
package actor SharedInstance<Instance: Sendable> {
    private let make: @Sendable () async throws -> Instance
    private var task: Task<Instance, any Error>?

    package init(_ make: @escaping @Sendable () async throws -> Instance) { self.make = make }

    package func get() async throws -> Instance {
        if let task { return try await task.value }
        let started = Task { try await make() }
        task = started
        return try await started.value
    }
}
