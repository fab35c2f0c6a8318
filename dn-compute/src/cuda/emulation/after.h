// Behind the kernels: how the emulated card is given one.

extern "C" char __start_emulated_shared[], __stop_emulated_shared[];

static void (*emulated_kernel)(Args);
static Args emulated_args;
static void emulated::call_kernel() { emulated_kernel(emulated_args); }

// Runs a kernel over a grid. `order` changes the order of its threads and blocks, which must not matter.
extern "C" void emulated_launch(void (*kernel)(Args), const Args* args, const unsigned* grid, unsigned block, unsigned order) {
  using namespace emulated;
  if (block == 0 || block > MOST_THREADS || block % LANES != 0) stop("blocks are of whole warps, 1 to 32");
  if (!stacks) {
    void* room = mmap(nullptr, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) stop("no memory for stacks");
    stacks = (char*)room;
  }
  emulated_kernel = kernel;
  emulated_args = *args;
  count = block;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block, 1, 1};
  uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
  for (uint64_t i = 0; i < blocks; i++) {
    uint64_t at = order % 2 ? blocks - 1 - i : i;
    blockIdx = {(unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]), (unsigned)(at / grid[0] / grid[1])};
    memset(__start_emulated_shared, 0xa5, (size_t)(__stop_emulated_shared - __start_emulated_shared));
    run_block(order + (unsigned)at);
  }
}
