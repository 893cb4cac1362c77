"""Does a round over files: python -m services.aggregator.offline"""

from services.aggregator.offline.over_files import main

if __name__ == "__main__":
    main()
