// A second device that is real to torch: another device type, two indices, memory of its own.
//
// Its memory is the host's, so that a CPU kernel can stand in for each that it lacks; all else is as
// on an accelerator: tensors reach it by copies, an index is part of where they are, and what two
// devices share they share by copying. It counts what is copied and allocated, and misbehaves when
// it is told to.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>

namespace {

constexpr c10::DeviceType TYPE = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex INDICES = 2;

thread_local c10::DeviceIndex current = 0;

// --- what it is told to do, and what it has done -----------------------------------------------

struct Orders {
  std::string misbehaviour;  // empty: none
  int64_t at = 0;            // the copy, counted from 1, that it befalls; 0 for each
  int64_t limit = 0;         // bytes that each index may have allocated; 0 for any number
  int64_t copies = 0;
  int64_t bytes = 0;
  bool lost = false;
} orders;

bool befalls(const char* misbehaviour) {
  return orders.misbehaviour == misbehaviour && (orders.at == 0 || orders.at == orders.copies);
}

// --- memory --------------------------------------------------------------------------------------

struct Block {
  c10::DeviceIndex index;
  int64_t size;
};

struct Memory final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t size) override {
    TORCH_CHECK(!orders.lost, "annex: the device was lost");
    const std::lock_guard<std::mutex> guard(mutex);
    auto& held = stats[current].allocated_bytes[0];
    const bool fits =
        orders.limit == 0 || held.current + static_cast<int64_t>(size) <= orders.limit;
    TORCH_CHECK_WITH(
        OutOfMemoryError, fits, "annex: out of memory, tried to allocate ", size, " bytes");
    void* data = size == 0 ? nullptr : std::aligned_alloc(64, (size + 63) / 64 * 64);
    if (data != nullptr) {
      blocks[data] = {current, static_cast<int64_t>(size)};
      held.increase(size);
    }
    return {data, data, &Memory::free, c10::Device(TYPE, current)};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &Memory::free;
  }

  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(to, from, count);
  }

  bool initialized() override {
    return true;
  }
  void emptyCache(c10::MempoolId_t pool) override {}
  void recordStream(const c10::DataPtr& data, c10::Stream stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex index) override {
    return stats[index];
  }
  void resetAccumulatedStats(c10::DeviceIndex index) override {
    stats[index].allocated_bytes[0].reset_accumulated();
  }
  void resetPeakStats(c10::DeviceIndex index) override {
    stats[index].allocated_bytes[0].reset_peak();
  }

  static void free(void* data);

  std::mutex mutex;
  std::unordered_map<void*, Block> blocks;
  c10::CachingDeviceAllocator::DeviceStats stats[INDICES];
};

// Never destroyed: tensors outlive what is static.
Memory& memory = *new Memory;

void Memory::free(void* data) {
  if (data == nullptr) {
    return;
  }
  const std::lock_guard<std::mutex> guard(memory.mutex);
  const auto found = memory.blocks.find(data);
  memory.stats[found->second.index].allocated_bytes[0].decrease(found->second.size);
  memory.blocks.erase(found);
  std::free(data);
}

// --- what torch asks of a device -------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return TYPE;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto old = getDevice();
    setDevice(device);
    return old;
  }
  c10::Device getDevice() const override {
    return {TYPE, current};
  }
  void setDevice(c10::Device device) const override {
    TORCH_CHECK(device.index() < INDICES, "annex: there is no index ", int(device.index()));
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) {
      current = device.index();
    }
  }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return getStream(device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream;
  }
  bool queryStream(const c10::Stream& stream) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream& stream) const override {}
  void synchronizeDevice(const c10::DeviceIndex index) const override {}
  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex index,
      const c10::EventFlag flag) const override {}
  void block(void* event, const c10::Stream& stream) const override {}
  bool queryEvent(void* event) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return INDICES;
  }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex index) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return INDICES;
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    Guard().setDevice({TYPE, index});
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return current;
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return Guard().exchangeDevice({TYPE, index}).index();
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return exchangeDevice(index);
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return at::detail::createCPUGenerator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    const c10::DeviceGuard guard(storage.device());
    auto fresh = memory.allocate(size);
    const auto kept = std::min(size, storage.nbytes());
    if (kept != 0) {
      std::memcpy(fresh.get(), storage.data(), kept);
    }
    storage.set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

// --- tensors -------------------------------------------------------------------------------------

constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

// The same elements as a tensor of the CPU's, for the length of one operation.
at::Tensor on_host(const at::Tensor& tensor) {
  auto host = at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
          at::DataPtr(tensor.storage().mutable_data(), c10::Device(c10::kCPU)), nullptr, false),
      c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  host.unsafeGetTensorImpl()->set_storage_offset(tensor.storage_offset());
  host.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides());
  host._set_conj(tensor.is_conj());
  host._set_neg(tensor.is_neg());
  return host;
}

c10::DeviceGuard guard_for(std::optional<c10::Device> device) {
  const auto wanted = device.value_or(c10::Device(TYPE));
  return c10::DeviceGuard(wanted.has_index() ? wanted : c10::Device(TYPE, current));
}

at::Tensor filled(at::Tensor tensor) {
  auto& context = at::globalContext();
  if (context.deterministicAlgorithms() && context.deterministicFillUninitializedMemory()) {
    auto host = on_host(tensor);
    at::native::fill_empty_deterministic_(host);
  }
  return tensor;
}

at::Tensor empty(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout> layout, std::optional<c10::Device> device,
    std::optional<bool> pinned, std::optional<c10::MemoryFormat> format) {
  const auto guard = guard_for(device);
  return filled(
      at::detail::empty_generic(size, &memory, KEYS, c10::dtype_or_default(dtype), format));
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
    std::optional<c10::ScalarType> dtype, std::optional<c10::Layout> layout,
    std::optional<c10::Device> device, std::optional<bool> pinned) {
  const auto guard = guard_for(device);
  return filled(at::detail::empty_strided_generic(
      size, stride, &memory, KEYS, c10::dtype_or_default(dtype)));
}

// What came from elsewhere came as bytes, by whole storages: a zero has its sign until it is copied
// as a number, on the device.
void spoil(const at::Tensor& copied, bool from_elsewhere) {
  auto host = on_host(copied);
  if (host.numel() == 0) {
    return;
  }
  if (from_elsewhere && befalls("flip-bit")) {
    static_cast<uint8_t*>(host.mutable_data_ptr())[0] ^= 1;
  }
  if (befalls("lose-negative-zero") && host.scalar_type() == at::kFloat) {
    host.add_(0.0);
  }
  if (from_elsewhere && befalls("reorder") && host.dim() > 0) {
    host.copy_(host.flip(0));
  }
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool non_blocking) {
  TORCH_CHECK(!orders.lost, "annex: the device was lost");
  ++orders.copies;
  orders.bytes += static_cast<int64_t>(self.nbytes());
  TORCH_CHECK(!befalls("fail"), "annex: copy ", orders.copies, " failed");
  const auto source = self.device().type() == TYPE ? on_host(self) : self;
  auto target = to.device().type() == TYPE ? on_host(to) : to;
  target.copy_(source);
  if (to.device().type() == TYPE) {
    spoil(to, self.device() != to.device());
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  return copy_from(self, to, false);
}

const at::Tensor& resize_(const at::Tensor& self, c10::SymIntArrayRef sizes,
    std::optional<c10::MemoryFormat> format) {
  const auto size = C10_AS_INTARRAYREF_SLOW(sizes);
  auto* tensor = self.unsafeGetTensorImpl();
  tensor->set_sizes_contiguous(size);
  const auto needed =
      at::detail::computeStorageNbytesContiguous(size, self.itemsize(), self.storage_offset());
  if (needed > self.storage().nbytes()) {
    Hooks().resizePrivateUse1Bytes(self.storage(), needed);
  }
  if (format.has_value()) {
    tensor->empty_tensor_restride(*format);
  }
  return self;
}

at::Tensor& set_storage(at::Tensor& result, c10::Storage storage, int64_t offset,
    c10::IntArrayRef size, c10::IntArrayRef stride) {
  at::native::checkSetStorage(result, storage, offset, size, stride);
  const c10::DeviceGuard guard(result.device());
  result.unsafeGetTensorImpl()->set_storage_offset(offset);
  auto strides = stride.data() == nullptr ? std::optional<c10::IntArrayRef>() : stride;
  at::native::resize_impl_cpu_(result.unsafeGetTensorImpl(), size, strides);
  return result;
}

at::Tensor& set_storage_whole(at::Tensor& result, c10::Storage storage) {
  const auto count = static_cast<int64_t>(storage.nbytes() / result.dtype().itemsize());
  return set_storage(result, std::move(storage), 0, {count}, {});
}

at::Tensor& set_tensor(at::Tensor& result, const at::Tensor& source) {
  return set_storage(
      result, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

at::Tensor& set_nothing(at::Tensor& result) {
  const c10::DeviceGuard guard(result.device());
  c10::Storage none(c10::Storage::use_byte_size_t(), 0, memory.allocate(0), &memory, true);
  return set_storage(result, std::move(none), 0, {0}, {});
}

void fall_back(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("resize_", resize_);
  m.impl("set_.source_Storage", set_storage_whole);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("set_", set_nothing);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("view.dtype", at::native::view_dtype);
  m.impl("view_as_real", at::native::view_as_real);
  m.impl("view_as_complex", at::native::view_as_complex);
  m.impl("unfold", at::native::unfold);
  m.impl("alias", at::native::alias);
  m.impl("_reshape_alias", at::native::_reshape_alias);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fall_back>());
}

// Resolving a conjugate takes a copy: the copy itself must not ask for one to be resolved.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  c10::SetAllocator(TYPE, &memory);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  m.attr("INDICES") = int(INDICES);
  m.def("current_device", [] { return int(current); });
  m.def("set_device", [](int index) { Guard().setDevice({TYPE, c10::DeviceIndex(index)}); });
  m.def("misbehave", [](const std::string& how, int64_t at) {
    orders.misbehaviour = how;
    orders.at = at;
    orders.copies = orders.bytes = 0;
  });
  m.def("limit", [](int64_t bytes) { orders.limit = bytes; });
  m.def("lose", [](bool lost) { orders.lost = lost; });
  m.def("copies", [] { return std::make_pair(orders.copies, orders.bytes); });
}
