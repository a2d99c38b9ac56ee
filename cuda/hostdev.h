// What lets one source serve the GPU, plain C++ and vector registers: a mark for functions, a namespace per build, and lanes.
//
// Arithmetic is written once, as templates over a `Lanes` type: `Scalar` here (one voxel: CUDA threads and the reference), `Wide` in
// lanes.h (a vector register of the CPU). Every operation used is exact or correctly rounded by IEEE 754 (+ - * sqrt, comparisons,
// conversions, integers), so all of them give the same bits as long as the compiler fuses nothing: -ffp-contract=off, nvcc -fmad=false.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define AUG_HOSTDEV __host__ __device__ __forceinline__
#else
#define AUG_HOSTDEV inline __attribute__((always_inline))
#endif

// The same headers are compiled several times for different instruction sets and linked together. Each build has its own inline
// namespace: without it the linker would keep one copy of every function, perhaps the one that an older CPU cannot run.
#ifndef AUG_TARGET
#define AUG_TARGET plain
#endif
#define AUG_BEGIN namespace aug { inline namespace AUG_TARGET {
#define AUG_END } }

AUG_BEGIN

/// One voxel at a time. Masks are bool.
struct Scalar {
    using Float = float;
    using Int = int32_t;
    using UInt = uint32_t;
    using Word = uint32_t;   // of Philox
    static constexpr int COUNT = 1;
    static AUG_HOSTDEV Int lane_numbers() { return 0; }
    static AUG_HOSTDEV Float load_floats(const float* from) { return *from; }
    static AUG_HOSTDEV Float gather(const float* from, Int index) { return from[index]; }

    static AUG_HOSTDEV Float to_float(Int v) { return static_cast<float>(v); }
    static AUG_HOSTDEV Int to_int(Float v) { return static_cast<int32_t>(v); }   // towards zero; |v| < 2^31
    static AUG_HOSTDEV Float floor(Float v) {   // |v| < 2^31
        const Float whole = to_float(to_int(v));
        return whole > v ? whole - 1.0f : whole;
    }
    static AUG_HOSTDEV Float select(bool mask, Float yes, Float no) { return mask ? yes : no; }
    static AUG_HOSTDEV Int select_int(bool mask, Int yes, Int no) { return mask ? yes : no; }
#if defined(__CUDA_ARCH__)
    static AUG_HOSTDEV Int bits(Float v) { return __float_as_int(v); }
    static AUG_HOSTDEV Float from_bits(Int v) { return __int_as_float(v); }
    static AUG_HOSTDEV Float sqrt(Float v) { return __fsqrt_rn(v); }
    static AUG_HOSTDEV Word high_product(Word a, uint32_t b) { return __umulhi(a, b); }
#else
    static AUG_HOSTDEV Int bits(Float v) { Int b; __builtin_memcpy(&b, &v, 4); return b; }
    static AUG_HOSTDEV Float from_bits(Int v) { Float f; __builtin_memcpy(&f, &v, 4); return f; }
    static AUG_HOSTDEV Float sqrt(Float v) { return __builtin_sqrtf(v); }
    static AUG_HOSTDEV Word high_product(Word a, uint32_t b) { return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32); }
#endif
    /// 64-bit product of a Philox word and a constant, as high and low word.
    static AUG_HOSTDEV void multiply(Word a, uint32_t b, Word& high, Word& low) {
        high = high_product(a, b);
        low = a * b;
    }
};

template <class L>
AUG_HOSTDEV typename L::Float lerp(typename L::Float a, typename L::Float b, typename L::Float t) {
    return a + t * (b - a);
}

AUG_END
