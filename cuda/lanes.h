// Vector registers as lanes: the compiler's portable vector types, and intrinsics for the few things that those lack.
//
// AUG_LANES is the number of floats in a register: 16 (x86-64-v4), 8 (v3), 4 (v2 and every other machine).
#pragma once

#include "hostdev.h"

#include <cstddef>
#include <utility>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

// A stage of the work on a strip. Not inlined: each then has the registers to itself, and a profile shows them apart.
#define AUG_STAGE [[gnu::noinline]] static

AUG_BEGIN

constexpr int N = AUG_LANES;

struct Wide {
    typedef float Float __attribute__((vector_size(4 * N)));
    typedef int32_t Int __attribute__((vector_size(4 * N)));
    typedef uint32_t UInt __attribute__((vector_size(4 * N)));
    typedef uint64_t Pairs __attribute__((vector_size(4 * N)));

    static constexpr int COUNT = N;
    static AUG_HOSTDEV Int lane_numbers() {
        Int numbers;
        for (int i = 0; i < N; i++) numbers[i] = i;
        return numbers;
    }
    static AUG_HOSTDEV Float load_floats(const float* from) {
        Float v;
        __builtin_memcpy(&v, from, sizeof v);
        return v;
    }
    static AUG_HOSTDEV Float gather(const float* from, Int index) {
#if AUG_LANES == 16
        return (Float)_mm512_i32gather_ps((__m512i)index, from, 4);
#else
        Float v;
        for (int i = 0; i < N; i++) v[i] = from[index[i]];
        return v;
#endif
    }

    /// One 32-bit word for each of N counters, in the low halves of 64-bit lanes where the multiplier wants them; the high halves
    /// hold leftovers. Counters 0, 2, 4, ... are in `even`, the others in `odd`.
    struct Word {
        Pairs even, odd;
        friend AUG_HOSTDEV Word operator^(Word a, Word b) { return {a.even ^ b.even, a.odd ^ b.odd}; }
        friend AUG_HOSTDEV Word operator^(Word a, uint32_t b) { return {a.even ^ b, a.odd ^ b}; }
    };

    static AUG_HOSTDEV Float to_float(Int v) { return __builtin_convertvector(v, Float); }
    static AUG_HOSTDEV Int to_int(Float v) { return __builtin_convertvector(v, Int); }
    static AUG_HOSTDEV Int bits(Float v) { return (Int)v; }
    static AUG_HOSTDEV Float from_bits(Int v) { return (Float)v; }
    static AUG_HOSTDEV Float select(Int mask, Float yes, Float no) { return mask ? yes : no; }
    static AUG_HOSTDEV Int select_int(Int mask, Int yes, Int no) { return mask ? yes : no; }

    static AUG_HOSTDEV Float floor(Float v) {
#if AUG_LANES == 16
        return (Float)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif AUG_LANES == 8
        return (Float)_mm256_floor_ps((__m256)v);
#elif defined(__SSE4_1__)
        return (Float)_mm_floor_ps((__m128)v);
#else
        const Float whole = to_float(to_int(v));
        return whole > v ? whole - 1.0f : whole;
#endif
    }

    static AUG_HOSTDEV Float sqrt(Float v) {
#if AUG_LANES == 16
        return (Float)_mm512_sqrt_ps((__m512)v);
#elif AUG_LANES == 8
        return (Float)_mm256_sqrt_ps((__m256)v);
#elif defined(__SSE4_1__)
        return (Float)_mm_sqrt_ps((__m128)v);
#else
        Float r;
        for (int i = 0; i < N; i++) r[i] = __builtin_sqrtf(v[i]);
        return r;
#endif
    }

    static AUG_HOSTDEV Pairs product(Pairs a, Pairs b) {   // of the low halves
#if AUG_LANES == 16
        return (Pairs)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif AUG_LANES == 8
        return (Pairs)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE4_1__)
        return (Pairs)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
        return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
    }

    static AUG_HOSTDEV void multiply(Word a, uint32_t b, Word& high, Word& low) {
        const Pairs factor = Pairs{} + b;
        low = {product(a.even, factor), product(a.odd, factor)};
        high = {low.even >> 32, low.odd >> 32};
    }

    static AUG_HOSTDEV UInt joined(Word w) { return (UInt)((w.even & 0xffffffffu) | (w.odd << 32)); }
};

/// A vector whose lane i is f(i), of 32-bit elements.
template <class V, class F, int... I>
AUG_HOSTDEV V lanes_of(F f, std::integer_sequence<int, I...>) {
    return V{f(I)...};
}
template <class V, class F>
AUG_HOSTDEV V lanes_of(F f) {
    return lanes_of<V>(f, std::make_integer_sequence<int, N>{});
}

template <class V>
AUG_HOSTDEV V load(const void* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class V>
AUG_HOSTDEV void store(void* to, V v) {
    __builtin_memcpy(to, &v, sizeof v);
}

/// Stores past the caches where the address is that of a whole register. A batch is larger than the caches, and its next reader is another
/// thread: lines need not be fetched to be overwritten (8.4 -> 7.9 ms per volume). fence() must follow before others are told.
AUG_HOSTDEV void stream(void* to, Wide::Float v) {
    float* target = static_cast<float*>(to);
    if (reinterpret_cast<uintptr_t>(to) % sizeof v) return store(to, v);
#if AUG_LANES == 16
    _mm512_stream_ps(target, (__m512)v);
#elif AUG_LANES == 8
    _mm256_stream_ps(target, (__m256)v);
#elif defined(__SSE4_1__)
    _mm_stream_ps(target, (__m128)v);
#else
    store(target, v);
#endif
}

AUG_HOSTDEV void fence() {
#if defined(__SSE4_1__)
    _mm_sfence();
#endif
}

/// Lane F(0), F(1), ... of the 2 N lanes of a and b.
template <int (*F)(int), class V, int... I>
AUG_HOSTDEV V shuffled(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, F(I)...);
}
template <int (*F)(int), class V>
AUG_HOSTDEV V shuffled(V a, V b) {
    return shuffled<F>(a, b, std::make_integer_sequence<int, N>{});
}

// within each 128-bit group of four lanes, a register's cheapest shuffles
constexpr int low_lanes(int i) { return i / 4 * 4 + i % 4 / 2 + (i % 2 ? N : 0); }
constexpr int high_lanes(int i) { return low_lanes(i) + 2; }
constexpr int low_pairs(int i) { return i / 4 * 4 + i % 2 + (i % 4 >= 2 ? N : 0); }
constexpr int high_pairs(int i) { return low_pairs(i) + 2; }
constexpr int even_lanes(int i) { return 2 * i; }
constexpr int odd_lanes(int i) { return 2 * i + 1; }

/// Transposes the 4x4 blocks that v[0..3] hold in each group of four lanes.
AUG_HOSTDEV void transpose_groups(Wide::Float (&v)[4]) {
    const auto a = shuffled<low_lanes>(v[0], v[1]), b = shuffled<high_lanes>(v[0], v[1]);
    const auto c = shuffled<low_lanes>(v[2], v[3]), d = shuffled<high_lanes>(v[2], v[3]);
    v[0] = shuffled<low_pairs>(a, c);
    v[1] = shuffled<high_pairs>(a, c);
    v[2] = shuffled<low_pairs>(b, d);
    v[3] = shuffled<high_pairs>(b, d);
}

/// The low bytes of the lanes.
AUG_HOSTDEV void store_bytes(uint8_t* to, Wide::Int v) {
    typedef uint8_t Bytes __attribute__((vector_size(N)));
    store(to, __builtin_convertvector(v, Bytes));
}

/// binary16 of the lanes, rounded to nearest even.
AUG_HOSTDEV void store_halves(uint16_t* to, Wide::Float v, Wide::Int portable) {
#if AUG_LANES == 16
    (void)portable;
    store(to, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif AUG_LANES == 8
    (void)portable;
    store(to, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    (void)v;
    typedef uint16_t Halves __attribute__((vector_size(2 * N)));
    store(to, __builtin_convertvector(portable, Halves));
#endif
}

AUG_END
