"""List the references of a methods paragraph, numbered in the order of their first mention."""

REFERENCES = {
    "metrics": "Maier-Hein L, Reinke A, Godau P, et al. Metrics reloaded: recommendations for image analysis "
    "validation. Nat Methods 2024;21:195-212.",
    "hall": "Hall P. On the removal of skewness by transformation. J R Stat Soc B 1992;54:221-228.",
    "stringer": "Bickel PJ. Inference and auditing: the Stringer bound. Int Stat Rev 1992;60:197-209.",
    "johansen": "Johansen S. The Welch-James approximation to the distribution of the residual sum of squares in a "
    "weighted linear regression. Biometrika 1980;67:85-92.",
    "pooling": "Fay RE, Herriot RA. Estimates of income for small places: an application of James-Stein procedures to "
    "census data. J Am Stat Assoc 1979;74:269-277.",
    "mover": "Zou GY, Donner A. Construction of confidence limits about effect measures: a general approach. "
    "Stat Med 2008;27:1693-1702.",
    "ser": "Wang M, Deng W. Mitigating bias in face recognition using skewness-aware reinforcement learning. "
    "CVPR 2020.",
    "es": "Tian Y, Shi M, Luo Y, et al. FairSeg: a large-scale medical image segmentation dataset for fairness "
    "learning. ICLR 2024.",
    "exact": "Clopper CJ, Pearson ES. The use of confidence or fiducial limits illustrated in the case of the "
    "binomial. Biometrika 1934;26:404-413.",
    "freeman": "Freeman GH, Halton JH. Note on an exact treatment of contingency, goodness of fit and other problems "
    "of significance. Biometrika 1951;38:141-149.",
    "newcombe": "Newcombe RG. Interval estimation for the difference between independent proportions: comparison of "
    "eleven methods. Stat Med 1998;17:873-890.",
    "janssen": "Janssen A. Studentized permutation tests for non-i.i.d. hypotheses and the generalized "
    "Behrens-Fisher problem. Stat Probab Lett 1997;36:9-21.",
    "chung": "Chung E, Romano JP. Exact and asymptotically robust permutation tests. Ann Stat 2013;41:484-507.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6:65-70.",
    "bh": "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995;57:289-300.",
    "munzel": "Brunner E, Munzel U. The nonparametric Behrens-Fisher problem. Biom J 2000;42:17-25.",
    "kruskal": "Kruskal WH, Wallis WA. Use of ranks in one-criterion variance analysis. J Am Stat Assoc "
    "1952;47:583-621.",
    "cliff": "Cliff N. Dominance statistics: ordinal analyses to answer ordinal questions. "
    "Psychol Bull 1993;114:494-509.",
    "tost": "Schuirmann DJ. A comparison of the two one-sided tests procedure and the power approach. "
    "J Pharmacokinet Biopharm 1987;15:657-680.",
    "agreement": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical "
    "measurement. Lancet 1986;327:307-310.",
    "standardization": "Robins J. A new approach to causal inference in mortality studies with a sustained exposure "
    "period. Math Model 1986;7:1393-1512.",
    "mccaffrey": "Bell RM, McCaffrey DF. Bias reduction in standard errors for linear regression with multi-stage "
    "samples. Surv Methodol 2002;28:169-181.",
    "tipton": "Pustejovsky JE, Tipton E. Small-sample methods for cluster-robust variance estimation and hypothesis "
    "testing in fixed effects models. J Bus Econ Stat 2018;36:672-683.",
}


class Bibliography:
    """Numbers references in the order of their first mention."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Return the citation of references, `[1,2]`."""
        self.keys += [key for key in keys if key not in self.keys]
        return f"[{','.join(str(self.keys.index(key) + 1) for key in keys)}]"

    def list(self) -> list[str]:
        """Return the references with their numbers."""
        return [f"[{i}] {REFERENCES[key]}" for i, key in enumerate(self.keys, 1)]
