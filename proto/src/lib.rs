//! gRPC interfaces between node components, generated from `protos/`: CRI, device plugin, plugin registration, pod
//! resources and gRPC health. Only wire types live here; behaviour never comes in.
#![allow(clippy::doc_lazy_continuation, clippy::large_enum_variant)]

/// Container Runtime Interface, `runtime.v1`.
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// Device plugin API, `v1beta1`.
pub mod deviceplugin {
    tonic::include_proto!("v1beta1");
}

/// Plugin registration API, `pluginregistration` (v1).
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");
}

/// Pod resources API, `v1`.
pub mod podresources {
    tonic::include_proto!("v1");
}

/// gRPC health checking protocol, `grpc.health.v1`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
