// v factor about 0, the mean of the patch, or a fixed value.
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct multiply : Pointwise {
    AUG_VALUES(factor, about_mean, pivot)
    static AUG_HOSTDEV bool statistics(const float* v, int) { return v[about_mean] != 0.0f; }

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int, typename L::Float value, const Here<L>& here) {
        const float about = v[about_mean] != 0.0f ? static_cast<float>(here.statistics[0].mean) : v[pivot];
        return (value - about) * v[factor] + about;
    }
};

}  // namespace steps
AUG_END
