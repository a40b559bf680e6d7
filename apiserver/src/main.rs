mod api;
mod authn;
mod authz;
mod handlers;
mod registry;
mod request;
mod status;
mod storage;
fn main() {}
mod admission;
