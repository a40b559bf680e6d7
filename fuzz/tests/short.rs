//! A short round of every target, with memory counted.

#[global_allocator]
static MEMORY: fuzz::memory::Counting = fuzz::memory::Counting;

#[test]
fn nothing_in_the_libraries_fails_badly_on_what_is_like_the_corpus() {
    fuzz::check(&fuzz::targets::ALL, 400);
}
