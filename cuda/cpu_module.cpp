// augserver.kernel._cpu: the kernel's CPU entry. Python validates (augserver/kernel/cpu.py); nothing here looks at a value twice.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "batch_run.h"
#include "plan.h"
#include "stages.h"

namespace nb = nanobind;

namespace {

using aug::Isa;
using aug::Params;

/// The builds that this CPU runs, best first; the reference comes last.
std::vector<const Isa*> supported() {
    std::vector<const Isa*> found;
#if defined(AUG_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) {
        // Gathers win on Intel's cores from Sapphire Rapids on, known by AVX512-FP16: 7.9 ms per volume against 9.5 (bench_kernel.py).
        // Elsewhere they are slow by design, or since the microcode against Downfall.
        const bool gather = __builtin_cpu_is("intel") && __builtin_cpu_supports("avx512fp16");
        if (gather) found.push_back(&aug::v4_gather_isa);
        found.push_back(&aug::v4_isa);
        if (!gather) found.push_back(&aug::v4_gather_isa);
    }
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&aug::v3_isa);
    if (__builtin_cpu_supports("x86-64-v2")) found.push_back(&aug::v2_isa);
#else
    found.push_back(&aug::generic_isa);
#endif
    found.push_back(&aug::scalar_isa);
    return found;
}

const Isa& isa_named(const std::string& name) {
    for (const Isa* isa : supported())
        if (name == isa->name) return *isa;
    throw std::invalid_argument("no instruction set '" + name + "' on this machine");
}

class Runner {
public:
    Runner(int threads, const std::string& isa) : batches_(isa_named(isa), threads) {}

    /// params: `count` structs of one output shape at this address; they and all they point at stay valid during the call.
    void run(uint64_t params, int64_t count) {
        nb::gil_scoped_release released;
        batches_.run(reinterpret_cast<const Params*>(params), count);
    }

    int threads() const { return batches_.threads(); }
    std::string isa() const { return batches_.isa().name; }

private:
    aug::BatchRunner batches_;
};

std::vector<std::string> isa_names() {
    std::vector<std::string> names;
    for (const Isa* isa : supported()) names.emplace_back(isa->name);
    return names;
}

/// numpy's name of a field's type, such as "<f4".
template <typename T>
std::string format_of() {
    if constexpr (std::is_enum_v<T>) {
        return format_of<std::underlying_type_t<T>>();
    } else {
        const char kind = std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
        return std::string("<") + kind + std::to_string(sizeof(T));
    }
}

/// The extents of an array, outermost first; none of anything else.
template <typename T>
nb::list shape_of() {
    nb::list shape;
    if constexpr (std::rank_v<T> > 0) shape.append(std::extent_v<T, 0>);
    if constexpr (std::rank_v<T> > 1) shape.append(std::extent_v<T, 1>);
    static_assert(std::rank_v<T> <= 2);
    return shape;
}

/// Params as numpy.dtype takes a struct.
nb::dict params_layout() {
    nb::list names, formats, offsets;
#define AUG_FIELD(type, name, extents)                                                   \
    names.append(#name);                                                                 \
    formats.append(nb::make_tuple(format_of<type>(), nb::tuple(shape_of<decltype(Params::name)>()))); \
    offsets.append(offsetof(Params, name));
    using namespace aug;
#include "params_fields.h"
    nb::dict layout;
    layout["names"] = names;
    layout["formats"] = formats;
    layout["offsets"] = offsets;
    layout["itemsize"] = sizeof(Params);
    return layout;
}

/// What the kernel knows of each step, by its name.
nb::dict steps() {
    nb::dict all;
    auto add = [&all](const char* name, aug::StepCode code, const std::string& names, bool neighbourhood) {
        nb::list values;
        for (size_t at = 0; at < names.size();) {
            const size_t end = std::min(names.find(',', at), names.size());
            values.append(names.substr(at, end - at));
            at = names.find_first_not_of(", ", end);
        }
        nb::dict step;
        step["code"] = static_cast<uint32_t>(code);
        step["values"] = values;
        step["kind"] = neighbourhood ? "neighbourhood" : "pointwise";
        all[name] = step;
    };
#define AUG_STEP(name) add(#name, aug::STEP_##name, aug::steps::name::NAMES, aug::steps::name::NEIGHBOURHOOD);
#include "step_list.h"
    return all;
}

nb::tuple measure_plan(uint64_t params, int64_t count) {
    const aug::PlanSize size = aug::measure_plan(reinterpret_cast<const Params*>(params), count);
    return nb::make_tuple(size.stage_bytes, size.runs * static_cast<int64_t>(sizeof(aug::ChannelRun)));
}

nb::tuple make_plan(uint64_t sampled, uint64_t samples, int64_t count, uint64_t on_device, uint64_t memory, int64_t memory_bytes) {
    const aug::Programs programs{reinterpret_cast<Params*>(sampled), reinterpret_cast<const Params*>(samples), count};
    const aug::Plan plan = aug::make_plan(programs, reinterpret_cast<const Params*>(on_device), {memory, memory_bytes});
    nb::list launches;
    for (const aug::Launch& each : plan.launches)
        launches.append(nb::make_tuple(each.kernel, each.first, each.rows, each.threads, static_cast<int>(each.type)));
    return nb::make_tuple(nb::bytes(reinterpret_cast<const char*>(plan.runs.data()), plan.runs.size() * sizeof(aug::ChannelRun)), launches);
}

using Words = nb::ndarray<uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void philox(const std::string& isa, Words counter, Words key, Words out) {
    if (counter.size() != 4 || key.size() != 2 || out.size() != 4) throw std::invalid_argument("counter (4), key (2), out (4)");
    const uint32_t c[4] = {counter(0), counter(1), counter(2), counter(3)}, k[2] = {key(0), key(1)};
    uint32_t words[4];
    isa_named(isa).philox(c, k, words);
    for (int i = 0; i < 4; i++) out(i) = words[i];
}

void normals(const std::string& isa, uint64_t key, uint32_t channel, uint64_t block, Floats out) {
    const uint32_t k[2] = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
    isa_named(isa).normals(k, channel, block, static_cast<int>(out.size() / 4), out.data());
}

void evaluate(const std::string& isa, int function, Words in, Words out) {
    if (in.size() != out.size() || in.size() % 16) throw std::invalid_argument("arrays of one size, a multiple of 16");
    isa_named(isa).evaluate(static_cast<aug::Elementary>(function), in.data(), out.data(), static_cast<int64_t>(in.size()));
}

}  // namespace

NB_MODULE(_cpu, m) {
    m.doc() = "The kernel on the CPU; see augserver.kernel for the interface.";
    nb::class_<Runner>(m, "Runner", "A pool of threads and an instruction set.")
        .def(nb::init<int, const std::string&>(), nb::arg("threads"), nb::arg("isa"))
        .def("run", &Runner::run, nb::arg("params"), nb::arg("count"), "Augments `count` samples; releases the GIL; any thread may call it.")
        .def_prop_ro("threads", &Runner::threads)
        .def_prop_ro("isa", &Runner::isa);
    m.def("isas", &isa_names, "Instruction sets of this machine, best first, then 'scalar', the reference.");
    m.def("params_layout", &params_layout, "Params as numpy.dtype takes a struct.");
    m.def("steps", &steps,
          "Of each step: its code; its numbers' names, in order, of which the last may stand for a list; kind: pointwise or neighbourhood.");
    m.attr("RUN_BYTES") = sizeof(aug::ChannelRun);
    m.def("measure_plan", &measure_plan, nb::arg("params"), nb::arg("count"),
          "Of samples with programs: bytes between stages on a device, of the one that needs most; bytes of the plan's runs, at most.");
    m.def("make_plan", &make_plan, nb::arg("sampled"), nb::arg("samples"), nb::arg("count"), nb::arg("on_device"), nb::arg("memory"),
          nb::arg("memory_bytes"),
          "The runs, as bytes, and the launches, (kernel, first, rows, threads, input type), of samples with programs; see plan.h.");
    m.def("philox", &philox, nb::arg("isa"), nb::arg("counter"), nb::arg("key"), nb::arg("out"), "Four words of one counter.");
    m.def("normals", &normals, nb::arg("isa"), nb::arg("key"), nb::arg("channel"), nb::arg("block"), nb::arg("out"),
          "The kernel's noise of voxels 4 block, 4 block + 1, ...");
    m.def("evaluate", &evaluate, nb::arg("isa"), nb::arg("function"), nb::arg("values"), nb::arg("out"),
          "0 ln, 1 exp2, 2 sine, 3 cosine of a turn, 4 float16 bits; arrays hold the bits of float32.");
}
