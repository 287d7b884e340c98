import BlockCaching
import Platform
import UnderStores

/// The coordinator's metrics in the Prometheus text exposition format 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/).
struct Metrics {
    private(set) var text = ""

    init(_ services: Services) {
        let cache = services.cache.statistics()
        gauge("larder_uptime_seconds", "Time since the coordinator started.")
        sample("larder_uptime_seconds", [:], Double(MonotonicClock.now() - services.startedAt) / 1e9)
        addTiers(cache.tiers)
        addFetches(cache)
        addStores(services)
        addMounts(services.sessions.mounts())
    }

    private mutating func addTiers(_ tiers: [CacheStatistics.Tier]) {
        series("larder_cache_quota_bytes", "Bytes that a tier may hold.", .gauge, tiers) { Double($0.quota) }
        series("larder_cache_used_bytes", "Bytes that a tier holds.", .gauge, tiers) { Double($0.used) }
        series("larder_cache_pinned_bytes", "Bytes that leases keep from eviction.", .gauge, tiers) {
            Double($0.pinned)
        }
        series("larder_cache_files", "Cache files in a tier.", .gauge, tiers) { Double($0.files) }
        series("larder_cache_up", "Whether a tier takes new data.", .gauge, tiers) { $0.state == .ok ? 1 : 0 }
        series("larder_cache_hits_total", "Requests answered from a tier.", .counter, tiers) { Double($0.hits) }
        series("larder_cache_misses_total", "Requests that a tier could not answer.", .counter, tiers) {
            Double($0.misses)
        }
        series("larder_cache_evicted_bytes_total", "Bytes dropped for room.", .counter, tiers) {
            Double($0.evictedBytes)
        }
    }

    private mutating func addFetches(_ cache: CacheStatistics) {
        single("larder_fetches_total", "Ranges read from stores for the cache.", .counter, Double(cache.fetches))
        single("larder_fetch_failures_total", "Fetches that failed.", .counter, Double(cache.failedFetches))
        single(
            "larder_fetched_bytes_total", "Bytes read from stores for the cache.", .counter, Double(cache.bytesFetched))
        single(
            "larder_requested_bytes_total", "Bytes that readers and prefetches asked for.", .counter,
            Double(cache.bytesAsked))
        single(
            "larder_coalesced_bytes_total", "Bytes asked for while another fetch was bringing them.", .counter,
            Double(cache.bytesCoalesced))
        single(
            "larder_read_through_bytes_total", "Bytes served past the cache.", .counter, Double(cache.bytesReadThrough))
        single(
            "larder_damaged_blocks_total", "Cached blocks with a wrong checksum.", .counter, Double(cache.damagedBlocks)
        )
        single("larder_fetches_in_flight", "Fetches under way.", .gauge, Double(cache.fetchesInFlight))
    }

    private mutating func addStores(_ services: Services) {
        let stores = services.stores().map { ($0.identity.text, $0.counters) }
        header("larder_store_requests_total", "Requests sent to a store.", .counter)
        for (identity, counters) in stores {
            for (verb, count) in [
                ("HEAD", counters.headRequests), ("GET", counters.getRequests), ("LIST", counters.listRequests),
            ] {
                sample("larder_store_requests_total", ["store": identity, "verb": verb], Double(count))
            }
        }
        header("larder_store_received_bytes_total", "Bytes received from a store.", .counter)
        for (identity, counters) in stores {
            sample("larder_store_received_bytes_total", ["store": identity], Double(counters.bytesReceived))
        }
        header("larder_store_errors_total", "Failed requests, retried or not.", .counter)
        for (identity, counters) in stores {
            sample("larder_store_errors_total", ["store": identity], Double(counters.errors))
        }
        header("larder_store_retries_total", "Requests sent again.", .counter)
        for (identity, counters) in stores {
            sample("larder_store_retries_total", ["store": identity], Double(counters.retries))
        }
    }

    private mutating func addMounts(_ mounts: [ClientSession]) {
        single("larder_mounts", "Attached mounts.", .gauge, Double(mounts.count))
        var leases: [String: Int] = [:]
        for mount in mounts { for lease in mount.leases.all() { leases[lease.mode, default: 0] += 1 } }
        header("larder_leases", "Open files by how they are served.", .gauge)
        for mode in ["passthrough", "whole", "mapped", "inline", "source", "read-through"] {
            sample("larder_leases", ["mode": mode], Double(leases[mode] ?? 0))
        }
    }

    private enum Kind: String {
        case counter
        case gauge
    }

    private mutating func gauge(_ name: String, _ help: String) { header(name, help, .gauge) }

    private mutating func single(_ name: String, _ help: String, _ kind: Kind, _ value: Double) {
        header(name, help, kind)
        sample(name, [:], value)
    }

    private mutating func series(
        _ name: String, _ help: String, _ kind: Kind, _ tiers: [CacheStatistics.Tier],
        _ value: (CacheStatistics.Tier) -> Double
    ) {
        header(name, help, kind)
        for tier in tiers { sample(name, ["tier": tier.kind.rawValue, "path": tier.path], value(tier)) }
    }

    private mutating func header(_ name: String, _ help: String, _ kind: Kind) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    private mutating func sample(_ name: String, _ labels: [String: String], _ value: Double) {
        let list = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(Self.escape($0.value))\"" }
        text += list.isEmpty ? name : "\(name){\(list.joined(separator: ","))}"
        text += value.rounded() == value && abs(value) < 1e15 ? " \(Int64(value))\n" : " \(value)\n"
    }

    private static func escape(_ value: String) -> String {
        var escaped = ""
        for character in value {
            switch character {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.append(character)
            }
        }
        return escaped
    }
}
