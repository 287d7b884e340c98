// swift-tools-version: 6.1
import PackageDescription

// Arrows only point downward; scripts/check enforces them (docs/architecture.md).
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
]

let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let protobuf: Target.Dependency = .product(name: "SwiftProtobuf", package: "swift-protobuf")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let package = Package(
    name: "larder",
    products: [.executable(name: "larder", targets: ["larder"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .systemLibrary(name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CLibXML", pkgConfig: "libxml-2.0", providers: [.apt(["libxml2-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CISAL", pkgConfig: "libisal", providers: [.apt(["libisal-dev"])]),
        .target(name: "CLinux"),

        library("Platform", ["CLinux", "CISAL", system, logging]),
        library("LMDB", ["Platform", "CLMDB"]),
        library("BlockMaps", ["Platform", system]),
        library("UnderStores", ["Platform", "CCurl", "CLibXML", crypto, logging, system]),
        library("BlockCaching", ["BlockMaps", "LMDB", "Platform", crypto, logging, system]),
        .target(
            name: "Coordination", dependencies: ["Platform", protobuf, logging, system],
            exclude: ["coordination.proto"],
            swiftSettings: strict),
        library("FileSystem", ["Coordination", "BlockMaps", "Platform", logging, system]),
        library("FuseBridge", ["FileSystem", "Coordination", "Platform", "CFuse", logging, system]),
        library(
            "Coordinator",
            ["Coordination", "BlockCaching", "LMDB", "UnderStores", "Platform", hummingbird, crypto, logging, system]),
        library(
            "Commands",
            [
                "FuseBridge", "FileSystem", "Coordinator", "Coordination", "BlockCaching", "UnderStores", "Platform",
                "Yams", arguments, logging, system,
            ]),
        .executableTarget(name: "larder", dependencies: ["Commands"], swiftSettings: strict),

        .target(
            name: "TestSupport", dependencies: ["UnderStores", "Platform", logging, system], path: "Tests/TestSupport",
            swiftSettings: strict),
        tests("PlatformTests", ["Platform", "TestSupport", system]),
        tests("UnderStoresTests", ["UnderStores", "Platform", "TestSupport", crypto, logging]),
        tests("BlockCachingTests", ["BlockCaching", "BlockMaps", "LMDB", "Platform", "CLinux", logging, system]),
        tests("CoordinationTests", ["Coordination", "Platform", logging, system]),
        .target(name: "AllocationCount", path: "Tests/AllocationCount"),
        tests(
            "FileSystemTests",
            ["FuseBridge", "FileSystem", "Coordination", "BlockMaps", "Platform", "CLinux", "AllocationCount"]),
        tests(
            "CoordinatorTests",
            ["Coordinator", "Coordination", "BlockCaching", "UnderStores", "LMDB", "Platform", logging, system]),
        tests("CommandsTests", ["Commands", "Coordinator", "Coordination", "UnderStores", "Platform", "TestSupport"]),
        tests("MountTests", ["UnderStores", "Platform", "TestSupport"]),
        tests("ConformanceTests", ["Platform", "TestSupport", "CLinux", system]),
    ]
)
