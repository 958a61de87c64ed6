"""Define the report's terms for a reader who meets them for the first time."""

GLOSSARY = {
    "Gap": "Highest minus lowest mean of the ranked groups; 0 when all are equal.",
    "SER": "Skewed error ratio: the largest error of a group divided by the smallest; 1 when all are equal.",
    "ES": "Equity-scaled score: the mean, reduced by the distances of the group means from it.",
    "SD": "Standard deviation of the group means.",
    "Dice": "Overlap of prediction and reference mask, from 0 to 1.",
    "HD95": "95th percentile of the distances between the contours of prediction and reference mask; lower is better.",
    "NSD": "Normalized surface Dice: share of the contours that agree within a tolerance.",
    "95 % interval": "Range that contains the true value in 95 of 100 studies like this one.",
    "p": "How often a gap at least as large occurs by chance where the groups do not differ.",
    "Holm": "Correction of p for several tests, so that a false alarm in any of them stays below 5 %.",
    "Significant": "Corrected p below 0.05: chance alone rarely gives such a difference.",
    "Equivalent": "All differences lie within a margin that was stated in advance.",
    "Failed": "Dice of any structure below the failure threshold, by default 0.5.",
    "Ranked": "A group with enough patients to be compared; others are shown, not ranked.",
    "Power": "Probability that a test detects a difference that exists.",
}
