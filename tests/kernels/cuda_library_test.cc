#include "kernels/cuda_library.h"

#include <gmock/gmock.h>

#include "core/error.h"

namespace kvlab {
namespace {

using testing::HasSubstr;

std::string refusal(const CudaStatus& status, int index) {
  try {
    require_cuda_device(status, index);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E_UNSUPPORTED");
    return error.what();
  }
  return "accepted";
}

CudaStatus machine(int driver, std::vector<CudaDevice> devices) {
  return {.toolkit = 13000, .runtime = 13000, .driver = driver, .devices = std::move(devices)};
}

const CudaDevice kHopper{.name = "H100", .compute_capability = 90, .code = 90};

TEST(RequireCudaDevice, EachReasonIsOneSentenceWithItsFix) {
  CudaDevice turing{.name = "T4", .compute_capability = 75, .problem = "no kernel image"};
  EXPECT_THAT(refusal(machine(0, {}), 0),
              HasSubstr("no NVIDIA driver; install one that runs CUDA 13.0"));
  EXPECT_THAT(refusal(machine(12040, {}), 0), HasSubstr("up to 12.4, the kernels need 13.0"));
  EXPECT_THAT(refusal(machine(13000, {}), 0), HasSubstr("shows no device"));
  EXPECT_THAT(refusal(machine(13000, {kHopper}), 1),
              HasSubstr("devices here are cuda:0 to cuda:0"));
  EXPECT_THAT(refusal(machine(13000, {kHopper}), -1), HasSubstr("devices here are"));
  EXPECT_THAT(refusal(machine(13000, {turing}), 0),
              HasSubstr("T4 (compute capability 7.5) runs no"));
  EXPECT_EQ(refusal(machine(13000, {kHopper}), 0), "accepted");
}

#ifdef KVLAB_HAS_CUDA_OBJECT

TEST(CudaLibrary, OpensWithoutADeviceAndKnowsItsVersions) {
  const CudaStatus status = cuda_status();
  EXPECT_EQ(status.toolkit / 1000, 13);
  EXPECT_EQ(status.runtime / 1000, 13);
  EXPECT_EQ(status.devices.empty(), !status.problem.empty());
}

TEST(CudaLibrary, ADeviceRunsTheCodeCompiledForIt) {
  const CudaStatus status = cuda_status();
  if (status.devices.empty()) GTEST_SKIP() << "no CUDA device: " << status.problem;
  for (const CudaDevice& device : status.devices) {
    EXPECT_EQ(device.problem, "") << device.name;
    EXPECT_EQ(device.code, device.compute_capability == 90 ? 90 : 80) << device.name;
    EXPECT_GT(device.memory_bytes, 0);
  }
}

#else

TEST(CudaLibrary, AMissingObjectIsRefusedWithItsName) {
  try {
    cuda_library();
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E_UNSUPPORTED");
    EXPECT_THAT(error.what(), HasSubstr("libkvlab_cuda.so; build with KVLAB_CUDA=ON"));
  }
}

#endif

}  // namespace
}  // namespace kvlab
