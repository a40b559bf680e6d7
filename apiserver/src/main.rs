mod registry;
mod storage;
fn main() {}
